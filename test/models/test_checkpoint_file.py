"""Checkpoint files as bytes: what is refused before a model is built, and the fuzz."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sembox_ros.errors import CheckpointError
from sembox_ros.models import checkpoint as checkpoint_module
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint, load_with_header, save_checkpoint
from sembox_ros.models.checkpoint_file import MAX_HEADER_BYTES, digest_metadata, parse_json, printable

ROOT = Path(__file__).resolve().parents[2]
Header = dict[str, Any]


def split(data: bytes) -> tuple[Header, bytes]:
    end = 8 + struct.unpack('<Q', data[:8])[0]
    return json.loads(data[8:end]), data[end:]


def join(header: Header | str, tensors: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack('<Q', len(text)) + text + tensors


def refusal(path: Path, data: bytes) -> str:
    """The one printable line with which a file of these bytes is refused, less its name."""
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f'{path}: ')
    assert message.isprintable()
    assert len(message) < len(str(path)) + 800
    return message.removeprefix(f'{path}: ')


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    return tmp_path / 'damaged.safetensors'


@pytest.fixture(scope='module')
def whole(tiny_checkpoint_path: Path) -> bytes:
    return tiny_checkpoint_path.read_bytes()


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (pytest.fail, ('the pickle was executed',))


def torch_file(*, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({'x': torch.zeros(3), 'bomb': Bomb()}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (torch_file(zipped=True), 'zip archive'),
        (torch_file(zipped=False), 'Python pickle'),
        (pickle.dumps(Bomb()), 'Python pickle'),
        (pickle.dumps([0] * 2000, protocol=2), 'Python pickle'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n', 'Git LFS'),
        (b'<!DOCTYPE html><html>404</html>', 'web page'),
        (b'', 'has only 0 bytes'),
        (b'{' * 40, 'declares a header'),
        (struct.pack('<Q', 20) + b'{}', 'declares a header of 20 bytes and has 10'),
    ],
)
def test_something_else_by_that_name_is_recognised(damaged: Path, data: bytes, reason: str) -> None:
    assert reason in refusal(damaged, data)


def test_a_header_that_is_too_long_is_not_read(damaged: Path) -> None:
    assert 'is longer than' in refusal(damaged, join('{' + ' ' * MAX_HEADER_BYTES + '}', b''))


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('{"a": 1, "a": 2}', 'occurs twice'),
        ('{"a": ' + '[' * 50_000 + ']' * 50_000 + '}', 'too deeply'),
        ('{"a": [' + '0,' * 200_000 + '0]}', 'items'),
        ('{"a": ' + '9' * 5000 + '}', 'not JSON'),
        ('{"__metadata__": []}', 'text metadata'),
        ('{"__metadata__": {"format": 1}}', 'text metadata'),
        ('{"a": 1}', 'lacks dtype'),
        ('{"a": {"dtype": "F32", "shape": [1]}}', 'lacks dtype'),
        ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}', 'lacks dtype'),
        ('{"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}}', 'lacks dtype'),
        ('{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', 'impossible'),
        ('{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}', 'impossible'),
        ('{"a": {"dtype": "F32", "shape": [1, 1, 1, 1, 1, 1, 1, 1, 1], "data_offsets": [0, 4]}}', 'impossible'),
        ('{"a": {"dtype": "F32", "shape": [1099511627776], "data_offsets": [0, 4398046511104]}}', 'truncated'),
        ('{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 4]}}', 'truncated'),
        ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', 'does not fit'),
        ('{"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}', 'one of the formats F64, F32'),
        ('{"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}', 'one of the formats'),
        ('{"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}', 'end at byte'),
        (
            '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, '
            '"b": {"dtype": "F16", "shape": [1], "data_offsets": [2, 4]}}',
            'overlap',
        ),
        ('{"\\u001b[31m\\n\\ud800": {"dtype": "F32", "shape": [1]}}', '?[31m ?'),
    ],
)  # fmt: skip
def test_headers_that_are_refused(damaged: Path, text: str, reason: str) -> None:
    assert reason in refusal(damaged, join(text, b'\0\0\0\0'))


@pytest.mark.parametrize(
    'change',
    [
        {'neck_channels': 512, 'neck_cells': 8, 'detection_classes': 10_000},
        {'detection_classes': 10_000, 'neck_channels': 500},
    ],
)
def test_a_model_far_larger_than_the_file_is_not_built(
    whole: bytes, damaged: Path, change: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_module, 'create_model', lambda _config: pytest.fail('it was built'))
    header, tensors = split(whole)
    metadata = header['__metadata__']
    metadata['model'] = json.dumps({**json.loads(metadata['model']), **change})
    assert 'but the file holds' in refusal(damaged, join(header, tensors))


def test_a_flipped_digit_in_the_metadata_is_noticed(whole: bytes, damaged: Path) -> None:
    header, tensors = split(whole)
    metadata = header['__metadata__']
    changed = metadata['input'].replace('0.485', '0.484')
    assert changed != metadata['input']
    metadata['input'] = changed
    assert 'sha256_metadata' in refusal(damaged, join(header, tensors))
    del metadata['sha256_metadata']
    assert 'sha256_metadata' in refusal(damaged, join(header, tensors))


@pytest.mark.parametrize('name', ['\x1b[2J', 'line\nbreak', '\ud800', 'x' * 1000])
def test_class_names_that_no_terminal_should_see(whole: bytes, damaged: Path, name: str) -> None:
    header, tensors = split(whole)
    metadata = header['__metadata__']
    labels = json.loads(metadata['labels'])
    labels['detection']['names'][3] = name
    metadata['labels'] = json.dumps(labels)
    metadata['sha256_metadata'] = digest_metadata(metadata)
    assert 'printable names' in refusal(damaged, join(header, tensors))


def test_a_loaded_network_does_not_depend_on_its_file(whole: bytes, damaged: Path) -> None:
    damaged.write_bytes(whole)
    model = load_checkpoint(damaged).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with damaged.open('r+b') as file:
        file.write(b'\xff' * len(whole))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_header_tells_size_version_and_digests(tiny_checkpoint_path: Path) -> None:
    checkpoint, header = load_with_header(tiny_checkpoint_path)
    assert header.file_bytes == tiny_checkpoint_path.stat().st_size
    assert header.metadata['format_version'] == '1'
    assert header.numbers == sum(t.numel() for t in checkpoint.model.state_dict().values())


def test_bfloat16_and_float64_files_load(tiny_checkpoint_path: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint_path)
    for dtype in (torch.bfloat16, torch.float64):
        path = tmp_path / 'other.safetensors'
        save_checkpoint(dataclasses.replace(checkpoint, model=checkpoint.model.to(dtype)), path)
        loaded = load_checkpoint(path)
        assert isinstance(loaded, Checkpoint)
        assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


def test_parse_json_and_printable() -> None:
    assert parse_json('{"a": [1, {"b": null}]}') == {'a': [1, {'b': None}]}
    assert printable('a\n\tb\x1b[0m\u202e\ud800') == 'a b?[0m??'
    assert printable('x' * 1000, limit=10) == 'x' * 9 + '…'
    assert printable(['y' * 10**6])[:3] == "['y"


def run_fuzz(count: int, seed: int) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / 'bench' / 'fuzz_checkpoints.py'), '--count', str(count), '--seed', str(seed)]
    environment = {'PYTHONPATH': str(ROOT), 'PATH': '/usr/bin:/bin', 'HOME': '/nonexistent'}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.stdout, result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report


@pytest.mark.parametrize(
    ('count', 'seed'),
    [(80, 100_000), pytest.param(2000, 0, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])],
)
def test_fuzz(count: int, seed: int) -> None:
    report = run_fuzz(count, seed)
    assert report['failures'] == []
    assert report['refused'] + report['loaded'] == count
    assert report['refused'] > count / 2
