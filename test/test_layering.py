"""The import rules of docs/architecture.md: lower layers never know the upper ones, and ROS stays inside ros/."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'sembox_ros'

# layer -> layers it may import, besides itself. A layer is a module or folder directly under sembox_ros/.
_BELOW_TRAINING = {
    'errors', 'labels', 'types', 'config', 'ops', 'models', 'targets', 'losses', 'postprocess', 'draw', 'data',
    'evaluation', 'page', 'label_ids', 'atomic', 'panoptic', 'panoptic_files',
}  # fmt: skip
ALLOWED: dict[str, set[str]] = {
    'errors': set(),
    'label_tables': set(),
    'atomic': {'errors'},
    'labels': {'label_tables', 'errors'},
    'label_ids': {'labels', 'label_tables', 'errors'},
    'types': {'errors'},
    'panoptic': {'types', 'labels', 'errors'},
    'panoptic_files': {'panoptic', 'types', 'labels', 'label_ids', 'label_tables', 'atomic', 'errors'},
    'config': {'errors'},
    'ops': {'errors'},
    'models': {'ops', 'config', 'labels', 'atomic', 'errors'},
    'targets': {'ops', 'types', 'labels', 'errors'},
    'losses': {'ops', 'types', 'labels', 'errors'},
    # config as well: thresholds come in one object, the same for every caller.
    'postprocess': {'ops', 'panoptic', 'types', 'labels', 'config', 'errors'},
    'decoding': {'errors'},
    'draw': {'types', 'labels', 'errors'},
    'page': {'atomic', 'errors'},
    # label_tables as well: the ids that a dataset's files use are facts of the same kind.
    'data': {
        'ops', 'panoptic_files', 'panoptic', 'types', 'labels', 'label_ids', 'label_tables', 'config', 'atomic',
        'errors',
    },
    'evaluation': {'panoptic', 'types', 'labels', 'atomic', 'errors'},
    # ops as well: anchors and fit_within are geometry that preprocessing shares with the layers below.
    'inference': {'models', 'postprocess', 'ops', 'panoptic', 'types', 'labels', 'config', 'atomic', 'errors'},
    'training': _BELOW_TRAINING,
    # config as well: thresholds are arguments of the predictor.
    'replay': {
        'inference', 'evaluation', 'draw', 'page', 'decoding', 'panoptic_files', 'panoptic', 'types', 'labels',
        'label_ids', 'config', 'atomic', 'errors',
    },
    'cli': _BELOW_TRAINING | {'inference', 'training', 'decoding', 'replay'},
    'ros': {'inference', 'draw', 'decoding', 'types', 'labels', 'config', 'errors'},
    '__main__': {'cli'},
    '__init__': set(),
}

ROS_PACKAGES = {'rclpy', 'cv_bridge', 'launch', 'launch_ros', 'rosidl_runtime_py', 'ament_index_python'}
HEAVY_PACKAGES = {'torch', 'torchvision', 'efficientnet_pytorch'}  # evaluation is plain numpy


def is_ros(module: str) -> bool:
    top = module.split('.')[0]
    return top in ROS_PACKAGES or top.endswith(('_msgs', '_srvs', '_interfaces'))


def imported_modules(source: str, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a module imports, wherever in its text.

    `from a import b` counts as `a.b`, because b may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                package = module.split('.')[: None if is_package else -1]
                package = package[: len(package) - (node.level - 1)]
                base = '.'.join([*package, *([base] if base else [])])
            yield from ((node.lineno, f'{base}.{alias.name}') for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else getattr(function, 'id', '')
            if called in ('import_module', '__import__', 'run_module'):
                yield from ((node.lineno, name) for name in _constant_start(node.args[0]))


def _constant_start(argument: ast.expr) -> Iterator[str]:
    """The text of a constant, or the constant text at the start of an f-string."""
    if isinstance(argument, ast.JoinedStr) and argument.values:
        argument = argument.values[0]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        yield argument.value.rstrip('.')


def violations(package: Path) -> list[str]:
    """Every import that the table forbids, as 'file:line imports name'."""
    found = []
    for path in sorted(package.rglob('*.py')):
        relative = path.relative_to(package)
        layer = relative.parts[0].removesuffix('.py')
        parts = [package.name, *relative.with_suffix('').parts]
        is_package = parts[-1] == '__init__'
        module = '.'.join(parts[:-1] if is_package else parts)
        if layer not in ALLOWED:
            found.append(f'{relative}: layer {layer} is not in the table')
            continue
        for line, name in imported_modules(path.read_text(), module, is_package=is_package):
            head = name.split('.')
            if head[0] == package.name:
                target = head[1] if len(head) > 1 else '__init__'
                known = target in ALLOWED and target != '__init__'  # otherwise a name of the package itself
                bad = known and target != layer and target not in ALLOWED[layer]
            else:
                bad = layer != 'ros' and is_ros(name)
                bad |= layer == 'evaluation' and head[0] in HEAVY_PACKAGES
                bad |= layer == 'errors' and head[0] not in sys.stdlib_module_names
            if bad:
                found.append(f'{relative}:{line} imports {name}')
    return found


def test_every_import_is_allowed() -> None:
    assert violations(PACKAGE) == []


def test_table_never_points_upward() -> None:
    """Following the table from any layer never comes back to it."""

    def reachable(layer: str) -> set[str]:
        direct = ALLOWED[layer]
        return direct.union(*(reachable(other) for other in direct))

    for layer in ALLOWED:
        assert layer not in reachable(layer)
        assert 'ros' not in ALLOWED[layer]


@pytest.mark.parametrize(
    ('file', 'source', 'name'),
    [
        ('models/net.py', 'from sembox_ros.draw import colorize', 'sembox_ros.draw.colorize'),
        ('models/net.py', 'def f():\n    import sembox_ros.types', 'sembox_ros.types'),
        ('models/net.py', 'from ..postprocess import decode_detections', 'sembox_ros.postprocess.decode_detections'),
        ('models/net.py', 'from .. import training', 'sembox_ros.training'),
        ('models/__init__.py', 'from ..cli import main', 'sembox_ros.cli.main'),
        ('models/net.py', 'from sembox_ros import inference', 'sembox_ros.inference'),
        ('data/set.py', "import importlib\nimportlib.import_module('sembox_ros.models.zoo')", 'sembox_ros.models.zoo'),
        ('data/set.py', "from importlib import import_module\nimport_module(f'sembox_ros.cli.{x}')", 'sembox_ros.cli'),
        ('cli/node.py', 'import sembox_ros.ros.node', 'sembox_ros.ros.node'),
        ('cli/node.py', 'try:\n    import rclpy\nexcept ImportError:\n    pass', 'rclpy'),
        ('replay/bags.py', 'from sensor_msgs.msg import Image', 'sensor_msgs.msg.Image'),
        ('replay/bags.py', 'import cv_bridge', 'cv_bridge'),
        ('inference/launch.py', 'from launch import LaunchDescription', 'launch.LaunchDescription'),
        ('evaluation/miou.py', 'import torch', 'torch'),
        ('errors.py', 'import numpy', 'numpy'),
        ('errors.py', 'from sembox_ros import labels', 'sembox_ros.labels'),
    ],
)
def test_forbidden_import_is_caught(tmp_path: Path, file: str, source: str, name: str) -> None:
    path = tmp_path / 'sembox_ros' / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert [v.split(' imports ')[1] for v in violations(tmp_path / 'sembox_ros')] == [name]


@pytest.mark.parametrize(
    ('file', 'source'),
    [
        ('ros/node.py', 'import rclpy\nfrom sensor_msgs.msg import Image\nfrom sembox_ros.inference import predictor'),
        ('models/net.py', 'import torch\nfrom .layers import ConvNorm\nfrom ..ops import boxes\nimport launchpad'),
        ('cli/info.py', 'from sembox_ros import __version__'),
    ],
)
def test_allowed_import_is_not_caught(tmp_path: Path, file: str, source: str) -> None:
    path = tmp_path / 'sembox_ros' / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert violations(tmp_path / 'sembox_ros') == []


def test_unknown_layer_is_caught(tmp_path: Path) -> None:
    (tmp_path / 'sembox_ros').mkdir()
    (tmp_path / 'sembox_ros' / 'helpers.py').touch()
    assert len(violations(tmp_path / 'sembox_ros')) == 1


def test_importing_everything_but_ros_loads_no_ros() -> None:
    """What ast cannot see (a library that imports rclpy by itself) shows in a fresh interpreter."""
    names = []
    for path in sorted(PACKAGE.rglob('*.py')):
        parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
        if parts[1] in ('ros', '__main__.py', '__main__'):
            continue
        names.append('.'.join(parts[:-1] if parts[-1] == '__init__' else parts))
    assert 'sembox_ros.inference.predictor' in names
    script = (
        'import importlib, sys\n'
        'before = set(sys.modules)\n'
        f'for name in {names!r}: importlib.import_module(name)\n'
        'print(*sorted(set(sys.modules) - before), sep="\\n")\n'
    )
    run = subprocess.run(
        [sys.executable, '-c', script], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    loaded = run.stdout.split()
    assert 'sembox_ros.inference.predictor' in loaded
    # rosbags carries message definitions of its own under names like rosbags.typesys, which are not ROS packages.
    assert [m for m in loaded if is_ros(m) or m.startswith('sembox_ros.ros')] == []
