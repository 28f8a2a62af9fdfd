from __future__ import annotations

import copy
import dataclasses
import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sembox_ros.config import InputConfig, ModelConfig, from_mapping
from sembox_ros.errors import CheckpointError
from sembox_ros.labels import LabelSet, SceneLabels
from sembox_ros.models import checkpoint as checkpoint_module
from sembox_ros.models.checkpoint import (
    Checkpoint,
    digest_tensors,
    load_bundled,
    load_checkpoint,
    save_checkpoint,
)
from sembox_ros.models.checkpoint_file import digest_metadata
from sembox_ros.models.zoo import MODELS, create_model

Metadata = dict[str, str]
Tensors = dict[str, Tensor]

# As small as the architecture goes; the encoder is what remains.
CONFIG = ModelConfig(
    name='sembox_b0', encoder='efficientnet-b0', neck_channels=8, neck_cells=1, box_head_depth=1, semantic_channels=8,
    dpc_channels=8, semantic_classes=3, detection_classes=2,
)  # fmt: skip
SEMANTIC = LabelSet('places', ('road', 'car', 'sky'), ((1, 2, 3), (4, 5, 6), (7, 8, 9)), (False, True, False))
DETECTION = LabelSet('objects', ('car', 'cat'), ((1, 2, 3), (4, 5, 6)), (True, True))
BIAS = 'box_head.classify.last.1.bias'
KEYS = ('model', 'labels', 'input', 'trained', 'recipe', 'metrics')


@pytest.fixture(scope='module')
def tiny() -> Checkpoint:
    return Checkpoint(
        create_model(CONFIG, seed=0).eval(),
        CONFIG,
        SceneLabels.linked_by_name(SEMANTIC, DETECTION),
        InputConfig(size_hw=(128, 256), resize='stretch', channel_order='bgr', mean=(0.1, 0.2, 0.3), std=(1, 2, 3)),
        recipe={'epochs': 3, 'note': 'ünï "quoted"'},
        metrics={'miou': 0.5},
    )


@pytest.fixture(scope='module')
def saved(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('saved') / 'tiny.safetensors'
    save_checkpoint(tiny, path, half=True)
    return path


def read_metadata(path: Path) -> Metadata:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack('<Q', data[:8])[0]])
    metadata: Metadata = header['__metadata__']
    return metadata


def write_with_metadata(source: Path, target: Path, change: Callable[[Metadata], Any], *, rehash: bool = True) -> Path:
    """Copy a checkpoint with other metadata, a matching (or the old) digest of it, and the very same tensors."""
    data = source.read_bytes()
    end = 8 + struct.unpack('<Q', data[:8])[0]
    header = json.loads(data[8:end])
    change(header['__metadata__'])
    if rehash:
        header['__metadata__']['sha256_metadata'] = digest_metadata(header['__metadata__'])
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    target.write_bytes(struct.pack('<Q', len(text)) + text + data[end:])
    return target


def write_with_tensors(source: Path, target: Path, change: Callable[[Tensors], Any], *, rehash: bool = True) -> Path:
    """Copy a checkpoint with other tensors and a matching (or the old) digest."""
    tensors, metadata = load_file(source), read_metadata(source)
    change(tensors)
    if rehash:
        metadata['sha256'] = digest_tensors(tensors)
        metadata['sha256_metadata'] = digest_metadata(metadata)
    save_file(tensors, target, metadata)
    return target


def refusal(path: Path) -> str:
    """The one line with which a file is refused, less its name."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert '\n' not in message
    return message.replace(str(path), '')


def is_refused(path: Path, what: object) -> bool:
    """Whether a file is refused in the proper way; False if it loads."""
    try:
        load_checkpoint(path)
    except CheckpointError as error:
        message = str(error)
    except Exception as error:
        pytest.fail(f'{what}: {error!r}')
    else:
        return False
    assert '\n' not in message, what
    assert str(path) in message, what
    return True


def test_everything_survives_the_file(tiny: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tiny, tmp_path / 'new' / 'folder' / 'tiny.safetensors')
    loaded = load_checkpoint(str(tmp_path / 'new' / 'folder' / 'tiny.safetensors'))
    for field in dataclasses.fields(Checkpoint):
        if field.name != 'model':
            assert getattr(loaded, field.name) == getattr(tiny, field.name), field.name
    assert loaded.trained is True
    state, wanted = loaded.model.state_dict(), tiny.model.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], wanted[name]) and state[name].dtype == wanted[name].dtype for name in wanted)


def test_same_checkpoint_gives_the_same_digest_and_another_seed_does_not(tiny: Checkpoint) -> None:
    state = tiny.model.state_dict()
    assert digest_tensors(state) == digest_tensors(dict(reversed(state.items())))
    assert digest_tensors(state) != digest_tensors(create_model(CONFIG, seed=1).state_dict())
    # Equal bytes under another shape or dtype are other tensors.
    assert digest_tensors({'a': torch.zeros(2, 3)}) != digest_tensors({'a': torch.zeros(3, 2)})
    assert digest_tensors({'a': torch.zeros(2)}) != digest_tensors({'a': torch.zeros(2, dtype=torch.int32)})


def test_file_that_is_none(tmp_path: Path) -> None:
    assert 'does not exist or is not a file' in refusal(tmp_path / 'none.safetensors')
    assert 'does not exist or is not a file' in refusal(tmp_path)
    assert 'does not exist or is not a file' in refusal(Path('~nosuchuser/weights.safetensors'))
    assert 'does not exist or is not a file' in refusal(tmp_path / ('x' * 5000))


@pytest.mark.parametrize(
    'content',
    [b'', b'\0' * 7, b'just some text, longer than eight bytes\n', b'\xff' * 100, b'PK\x03\x04' + b'\0' * 100,
     struct.pack('<Q', 2) + b'{}', struct.pack('<Q', 2) + b'[]', struct.pack('<Q', 10**18) + b'{}'],
    ids=['empty', 'short', 'text', 'ones', 'zip', 'no_tensors', 'list', 'huge_header'],
)  # fmt: skip
def test_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'other.safetensors'
    path.write_bytes(content)
    assert 'not a' in refusal(path)


@pytest.mark.parametrize('keep', [4, 500, 0.5, -1])
def test_truncated_file(saved: Path, tmp_path: Path, keep: float) -> None:
    data = saved.read_bytes()
    path = tmp_path / 'half.safetensors'
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    assert 'not a readable .safetensors file' in refusal(path)


@pytest.mark.parametrize('place', [-1, -100_000, -3_000_000])
def test_one_flipped_bit_in_the_tensors(saved: Path, tmp_path: Path, place: int) -> None:
    data = bytearray(saved.read_bytes())
    data[place] ^= 1
    path = tmp_path / 'flipped.safetensors'
    path.write_bytes(data)
    assert 'sha256' in refusal(path)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'format': 'other'}, ('not a sembox_ros checkpoint',)),
        ({'format': None}, ('not a sembox_ros checkpoint',)),
        ({'format_version': '2'}, ("version '2'", 'upgrade')),
        ({'format_version': '1.0'}, ("version '1.0'",)),
        ({'format_version': None}, ("version ''",)),
        ({'format_version': '9' * 5000}, ()),
        ({'sha256': '0' * 64}, ('sha256',)),
        ({'sha256': None}, ('sha256',)),
        *(({key: None}, (f"'{key}' is missing",)) for key in KEYS),
        ({'model': '{not json'}, ("'model' is not JSON",)),
        ({'labels': '[' * 90_000}, ("'labels' is not JSON",)),
        ({'model': '[]'}, ("'model'", 'dict', 'list')),
        ({'labels': '"text"'}, ("'labels'", 'dict', 'str')),
        ({'input': 'null'}, ("'input'", 'dict', 'NoneType')),
        ({'trained': '1'}, ("'trained'", 'bool', 'int')),
        ({'recipe': '3'}, ("'recipe'", 'dict', 'int')),
        ({'metrics': '[1]'}, ("'metrics'", 'dict', 'list')),
        ({'model': '{"name": "sembox_b99"}'}, ('sembox_b99', 'sembox_b1')),
        ({'model': '{"name": "line\\nbreak"}'}, ('line break',)),
        ({'model': '{"nme": "sembox_b1"}'}, ("'nme'", 'did you mean name')),
        ({'model': '{"encoder": "resnet"}'}, ('encoder', 'resnet')),
        ({'model': '{"neck_channels": 88.0}'}, ('neck_channels', 'int', 'float')),
        ({'model': '{"neck_channels": 1000000000}'}, ('neck_channels', '8..512')),
        ({'input': '{"size_hw": [100, 100]}'}, ('size_hw', '128')),
        ({'input': '{"std": [0, 1, 1]}'}, ('std', 'positive')),
        ({'input': '{"mean": [1e999, 1, 1]}'}, ('mean', 'finite')),
        ({'input': '{"mean": [' + '9' * 400 + ', 1, 1]}'}, ()),
        ({'labels': '{}'}, ('scene labels', 'semantic')),
        ({'quantization': '[1]'}, ("'quantization'", 'dict', 'list')),
        ({'quantization': '{"a/add": 3}'}, ("'quantization': expected two numbers", 'a/add', 'got 3')),
        ({'quantization': '{"a/add": [0, true]}'}, ('got [0, True]',)),
        ({'quantization': '{"a/add": [2, 1]}'}, ('the smaller one first', 'got [2, 1]')),
        ({'quantization': '{"a/add": [0, 1e999]}'}, ('got [0, inf]',)),
        ({'quantization': '{"a/add": [NaN, 1]}'}, ('got [nan, 1]',)),
        ({'quantization': '{"a/add": [0, ' + '9' * 400 + ']}'}, ()),
    ],
)  # fmt: skip
def test_metadata_that_is_refused(
    saved: Path, tmp_path: Path, change: dict[str, str | None], words: tuple[str, ...]
) -> None:
    def apply(metadata: Metadata) -> None:
        for key, value in change.items():
            if value is None:
                del metadata[key]
            else:
                metadata[key] = value

    message = refusal(write_with_metadata(saved, tmp_path / 'changed.safetensors', apply))
    for word in words:
        assert word in message


def test_no_metadata_at_all(saved: Path, tmp_path: Path) -> None:
    save_file(load_file(saved), tmp_path / 'plain.safetensors')
    assert 'not a sembox_ros checkpoint' in refusal(tmp_path / 'plain.safetensors')


def test_label_sets_that_do_not_fit_the_model(saved: Path, tmp_path: Path) -> None:
    def swap(metadata: Metadata) -> None:
        labels = SceneLabels(semantic=DETECTION, detection=DETECTION)
        metadata['labels'] = json.dumps(labels.to_dict())

    message = refusal(write_with_metadata(saved, tmp_path / 'labels.safetensors', swap))
    assert "semantic label set 'objects' has 2 names, but the model has 3 classes" in message


def test_checkpoint_itself_refuses_labels_that_do_not_fit(tiny: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match=r"detection label set 'places' has 3 names.* 2 classes"):
        dataclasses.replace(tiny, labels=SceneLabels(SEMANTIC, SEMANTIC))


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda t: t.pop(BIAS), ('1 missing', BIAS, '0 unknown')),
        (lambda t: t.update({'stranger': torch.zeros(1)}), ('0 missing', '1 unknown', 'stranger')),
        (lambda t: t.update({'line\nbreak': torch.zeros(1)}), ('1 unknown',)),
        (lambda t: t.update({BIAS: torch.zeros(17)}), (BIAS, '(18,)', '(17,)')),
        (lambda t: t.update({BIAS: torch.zeros(18, 1)}), (BIAS, '(18,)', '(18, 1)')),
        (lambda t: t[BIAS].fill_(torch.nan), (BIAS, 'NaN')),
        (lambda t: t[BIAS][3:4].fill_(torch.inf), (BIAS, 'infinity')),
        (lambda t: t.update({BIAS: torch.full((18,), 1e300, dtype=torch.float64)}), (BIAS, 'infinity')),
        (lambda t: t.update({BIAS: torch.zeros(18).to(torch.float8_e4m3fn)}), (BIAS, 'F32', 'F8_E4M3')),
        (lambda t: t.update({BIAS: torch.zeros(18, dtype=torch.uint8)}), (BIAS, 'F32', 'U8')),
        (lambda t: t.update({BIAS: torch.zeros(18, dtype=torch.int64)}), (BIAS, 'float32', 'int64')),
        (
            lambda t: t.update({'encoder.stem_norm.num_batches_tracked': torch.tensor(1.0)}),
            ('num_batches_tracked', 'int64', 'float32'),
        ),
    ],
)
def test_tensors_that_are_refused(
    saved: Path, tmp_path: Path, change: Callable[[Tensors], Any], words: tuple[str, ...]
) -> None:
    message = refusal(write_with_tensors(saved, tmp_path / 'changed.safetensors', change))
    for word in words:
        assert word in message


def test_changed_tensor_with_the_old_digest(saved: Path, tmp_path: Path) -> None:
    path = write_with_tensors(saved, tmp_path / 'old.safetensors', lambda t: t[BIAS].add_(1), rehash=False)
    assert 'sha256' in refusal(path)


@pytest.mark.parametrize('key', KEYS)
def test_no_damaged_metadata_raises_anything_but_checkpoint_error(saved: Path, tmp_path: Path, key: str) -> None:
    """Every value inside the metadata's JSON is replaced by every other kind of value, one at a time."""
    path = tmp_path / 'damaged.safetensors'
    whole = json.loads(read_metadata(saved)[key])

    def variants(value: Any) -> Iterator[Any]:
        yield from (None, True, -1, 10**400, 1e300, float('nan'), float('inf'), '', 'x\ny', [], [[]], {}, {'': None})
        if isinstance(value, dict):
            for name in value:
                yield {k: v for k, v in value.items() if k != name}
                yield from ({**value, name: other} for other in variants(value[name]))
        if isinstance(value, list) and value:
            yield from ([other, *value[1:]] for other in variants(value[0]))

    everything = list(variants(whole))
    for index in random.Random(0).sample(range(len(everything)), min(20, len(everything))):
        text = json.dumps(everything[index])
        write_with_metadata(saved, path, lambda metadata, text=text: metadata.update({key: text}))
        is_refused(path, f'{key}={text[:300]}')


def test_failing_save_leaves_the_old_file_and_no_other(
    tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'kept.safetensors'
    path.write_bytes(b'old')

    def break_off(_tensors: Tensors, name: str, **_options: Any) -> None:
        Path(name).write_bytes(b'half of it')
        raise SafetensorError('No space left on device')

    monkeypatch.setattr(checkpoint_module, 'save_file', break_off)
    with pytest.raises(CheckpointError, match=r'kept\.safetensors: cannot be written: No space left on device'):
        save_checkpoint(tiny, path)
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


def test_save_replaces_and_leaves_no_other_file(tiny: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / 'new.safetensors'
    path.write_bytes(b'old')
    save_checkpoint(tiny, path)
    load_checkpoint(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_save_into_a_file_as_if_it_were_a_folder(tiny: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(CheckpointError, match=r'file/model\.safetensors: cannot be written'):
        save_checkpoint(tiny, tmp_path / 'file' / 'model.safetensors')


def test_half_keeps_what_float16_cannot_hold(tiny: Checkpoint, tmp_path: Path) -> None:
    model = copy.deepcopy(tiny.model)
    model.encoder.stem_norm.running_var.fill_(1e6)
    path = tmp_path / 'large.safetensors'
    save_checkpoint(dataclasses.replace(tiny, model=model), path, half=True)
    stored = load_file(path)
    assert stored['encoder.stem_norm.running_mean'].dtype == torch.float16
    loaded = load_checkpoint(path).model
    assert torch.equal(loaded.encoder.stem_norm.running_var, model.encoder.stem_norm.running_var)


def test_save_does_not_touch_the_model(tiny: Checkpoint, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    save_checkpoint(tiny, tmp_path / 'model.safetensors', half=True)
    for name, tensor in tiny.model.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


@torch.no_grad()
def test_the_bundled_checkpoint_is_trained_on_streets() -> None:
    bundled = load_bundled()
    assert bundled.trained
    assert bundled.config.name == 'sembox_b1'
    assert (bundled.labels.semantic.name, bundled.labels.detection.name) == ('cityscapes_19', 'cityscapes_things_8')
    assert bundled.metrics['miou'] > 0.5
    assert bundled.recipe['config']['data']['dataset'] == 'cityscapes'


def test_a_missing_bundled_checkpoint_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_module, 'find_shared', lambda _name: None)
    with pytest.raises(CheckpointError, match='not installed beside it'):
        load_bundled()


def test_zoo_configs_survive_json() -> None:
    for entry in MODELS.values():
        assert from_mapping(ModelConfig, json.loads(json.dumps(dataclasses.asdict(entry.config)))) == entry.config
