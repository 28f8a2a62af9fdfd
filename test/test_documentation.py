"""The documentation says what the code does."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from sembox_ros.cli import COMMANDS
from sembox_ros.config import InputConfig, NodeConfig
from sembox_ros.data.transforms import AugmentConfig
from sembox_ros.ros.outputs import FRAME_TOPICS, LABEL_TOPICS
from sembox_ros.ros.statistics import OUTCOMES
from sembox_ros.training.config import DataConfig, LossConfig, OptimizerConfig, TrainConfig

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs' / 'topics_and_parameters.md').read_text()


def table(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its two header lines."""
    section = PAGE.split(f'\n## {heading}\n')[1].split('\n## ')[0]
    rows = [line for line in section.splitlines() if line.startswith('|')]
    return [[cell.strip() for cell in row.strip('|').split('|')] for row in rows[2:]]


def test_parameters():
    documented = {row[0].strip('`'): row[1:] for row in table('Parameters')}
    fields = {f.name: f for f in dataclasses.fields(NodeConfig)}
    assert list(documented) == list(fields)
    for name, (default, live, meaning) in documented.items():
        metadata = fields[name].metadata
        assert default == f'`{json.dumps(fields[name].default)}`', name
        assert live == ('yes' if metadata['dynamic'] else 'no'), name
        assert meaning == metadata['description'], name


def test_published_topics_and_types():
    documented = {row[0].strip('`'): row[1].strip('`') for row in table('Published')}
    expected = {t: f'{k.__module__.split(".")[0]}/msg/{k.__name__}' for t, (k, _) in FRAME_TOPICS.items()}
    expected.update(dict.fromkeys(LABEL_TOPICS, 'vision_msgs/msg/LabelInfo'))
    expected['/diagnostics'] = 'diagnostic_msgs/msg/DiagnosticArray'
    assert documented == expected


def test_frame_counts():
    assert [row[0].strip('`') for row in table('Frames')] == ['received', *OUTCOMES]


def test_the_installed_executables_are_the_commands():
    setup = (ROOT / 'setup.py').read_text()
    listed = re.search(r'COMMANDS = \((.*?)\)', setup, re.DOTALL)
    assert listed is not None
    assert tuple(re.findall(r"'([\w-]+)'", listed[1])) == tuple(COMMANDS)


def show(value: object) -> str:
    """A default as the page about training writes it."""
    if isinstance(value, tuple):
        return f'[{", ".join(map(str, value))}]'
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


@pytest.mark.parametrize(
    ('heading', 'config'),
    [
        ('## Settings', TrainConfig), ('### `data`', DataConfig), ('### `input`', InputConfig),
        ('### `augment`', AugmentConfig), ('### `loss`', LossConfig), ('### `optimizer`', OptimizerConfig),
    ],
)  # fmt: skip
def test_training_settings(heading: str, config: type) -> None:
    page = (ROOT / 'docs' / 'training.md').read_text()
    rows = [line for line in re.split(r'\n##', page.split(f'\n{heading}\n')[1])[0].splitlines() if line[:1] == '|'][2:]
    documented = [tuple(cell.strip() for cell in row.strip('|').split('|')) for row in rows]
    fields = [f for f in dataclasses.fields(config) if 'description' in f.metadata]
    assert documented == [(f'`{f.name}`', f'`{show(f.default)}`', f.metadata['description']) for f in fields]


@pytest.mark.parametrize('page', ['README.md', *sorted(f'docs/{path.name}' for path in (ROOT / 'docs').glob('*.md'))])
def test_links_and_named_files_exist(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r'\]\(([^)#:]+)\)', text):
        assert ((ROOT / page).parent / target).exists(), target
    for name in re.findall(r'`((?:sembox_ros|docs|bench|underlay|config|launch|test)/[\w./-]+\.\w+)`', text):
        assert (ROOT / name).exists(), name


def test_the_readme_names_every_command_and_launch_argument():
    text = (ROOT / 'README.md').read_text()
    for command in COMMANDS:
        assert f'sembox_ros {command}' in text, command
    launch = (ROOT / 'launch' / 'sembox.launch.py').read_text()
    for argument in re.findall(r"DeclareLaunchArgument\(\s*'(\w+)'", launch):
        assert f'`{argument}`' in text, argument


def test_versions_agree():
    from sembox_ros import __version__

    assert f'<version>{__version__}</version>' in (ROOT / 'package.xml').read_text()
    assert f"version='{__version__}'" in (ROOT / 'setup.py').read_text()
    assert __version__ in (ROOT / 'CHANGELOG.rst').read_text()
