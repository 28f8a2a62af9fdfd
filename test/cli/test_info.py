from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from sembox_ros.cli import main
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint, load_with_header, save_checkpoint


def flat(text: str) -> str:
    """Printed text without the line breaks that a narrow terminal makes."""
    return ' '.join(text.split())


def test_the_card_of_a_checkpoint(tiny_checkpoint_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['info', str(tiny_checkpoint_path)]) == 0
    printed = flat(capsys.readouterr().out)
    _, header = load_with_header(tiny_checkpoint_path)
    for word in (
        'UNTRAINED sembox_b0', 'weights are random', 'cityscapes_19: 19 classes, 8 things', 'coco_90: 90 classes',
        'person = person', '128x256 (HxW), letterbox, rgb channels', '0.485 0.456 0.406', 'metric -', 'recipe -',
        'version 1', header.metadata['sha256'], f'({header.file_bytes / 1e6:.1f} MB)', 'at 128x256', 'folded to run',
    ):  # fmt: skip
        assert word in printed, word


def test_the_card_of_decoders_says_what_they_give(
    tiny_multitask: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tiny_multitask, tmp_path / 'multitask.safetensors')
    assert main(['info', str(tmp_path / 'multitask.safetensors')]) == 0
    printed = flat(capsys.readouterr().out)
    for word in (
        'masks cityscapes_19: 19 classes', 'boxes none', 'depth in metres', 'motion what moves',
        'inputs image and flow',
        'at 128x256, 19 mask classes', '19x32x64',
    ):  # fmt: skip
        assert word in printed, word
    assert 'box = mask' not in printed


def test_texts_from_the_file_are_shown_plain_and_short(
    tiny_checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = {
        '[red]name[/]': '[link=file:///etc/passwd]click[/link] :skull:',
        'escape': '\x1b[2J\x1b]0;title\x07 \u202e',
        'long': 'x' * 100_000,
        'line\nbreak': ['\r\n', {'deep': '\x00'}],
        **{f'k{i}': i for i in range(1000)},
    }
    path = tmp_path / 'hostile.safetensors'
    metrics = {'[bold]miou': 0.5, 'text': '\x1b[0m'}
    save_checkpoint(dataclasses.replace(load_checkpoint(tiny_checkpoint_path), recipe=hostile, metrics=metrics), path)
    assert main(['info', str(path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r'[\x00-\x09\x0b-\x1f\x7f\u202e]', printed) is None
    assert len(printed) < 10_000
    for word in ('[red]name[/]', '[link=file:///etc/passwd]click[/link] :skull:', '[bold]miou: 0.5', 'more'):
        assert word in flat(printed)


def test_a_zoo_model_is_shown_at_its_own_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['info', 'sembox_b0']) == 0
    assert 'sembox_b0 at 512x1024' in capsys.readouterr().out
