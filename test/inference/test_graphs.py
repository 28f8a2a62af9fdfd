from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sembox_ros.config import DetectionConfig
from sembox_ros.errors import CheckpointError, ConfigError
from sembox_ros.inference.export import ExportOptions, save_openvino, set_metadata
from sembox_ros.inference.graphs import find_graph, load_exported, network_key
from sembox_ros.inference.predictor import Predictor
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint

ANY_BOX = DetectionConfig(score_threshold=0.001, max_detections=40)


def described(path: Path) -> dict[str, str]:
    return {prop.key: prop.value for prop in onnx.load(path).metadata_props}


@pytest.fixture(scope='module')
def tiny_openvino(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('openvino') / 'tiny.xml'
    save_openvino(onnx.load(tiny_onnx), path)
    return path


def changed(source: Path, path: Path, change: Callable[[dict[str, str]], Any]) -> Path:
    """A copy of an exported file whose metadata was changed in place."""
    model, metadata = onnx.load(source), described(source)
    change(metadata)
    set_metadata(model, metadata)
    onnx.save(model, path)
    return path


def with_options(**values: Any) -> Callable[[dict[str, str]], None]:
    return lambda m: m.update(export=json.dumps({**json.loads(m['export']), **values}))


@pytest.mark.parametrize(('kind', 'engine'), [('onnx', 'onnxruntime'), ('onnx', 'openvino'), ('xml', 'openvino')])
def test_an_exported_file_gives_the_scenes_of_its_checkpoint(
    tiny: Checkpoint, tiny_onnx: Path, tiny_openvino: Path, kind: str, engine: str
) -> None:
    path = tiny_onnx if kind == 'onnx' else tiny_openvino
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    exported = Predictor.from_checkpoint(path, device='cpu', engine=engine, threads=1)
    plain = Predictor(tiny, device='cpu', engine='torch', threads=1)
    assert exported.labels == plain.labels
    assert exported.checkpoint.input == tiny.input
    (given_scene,), (wanted,) = (p.predict([image], detection=ANY_BOX) for p in (exported, plain))
    assert (given_scene.semantic != wanted.semantic).mean() < 1e-3
    assert len(wanted.detections.scores) > 5
    np.testing.assert_allclose(given_scene.detections.scores, wanted.detections.scores, atol=1e-4)
    np.testing.assert_allclose(given_scene.detections.boxes_xyxy, wanted.detections.boxes_xyxy, atol=0.05)


def test_a_fixed_size_keeps_the_whole_canvas(tiny_onnx: Path, tiny: Checkpoint, tmp_path: Path) -> None:
    from sembox_ros.inference.export import describe_export

    options = ExportOptions(size_hw=(256, 256))
    path = changed(tiny_onnx, tmp_path / 'a.onnx', lambda m: m.update(describe_export(tiny, options)))
    assert load_exported(path).input.resize == 'letterbox_fixed'
    assert load_exported(path).input.size_hw == (256, 256)


def test_torch_cannot_run_an_exported_file(tiny_onnx: Path) -> None:
    with pytest.raises(ConfigError, match=r'torch cannot run tiny\.onnx; use engine:=auto'):
        Predictor.from_checkpoint(tiny_onnx, device='cpu', engine='torch')


def test_onnxruntime_names_the_engine_for_openvino_files(tiny_openvino: Path) -> None:
    with pytest.raises(ConfigError, match='use engine:=openvino'):
        Predictor.from_checkpoint(tiny_openvino, device='cpu', engine='onnxruntime')


@pytest.mark.parametrize('engine', ['onnxruntime', 'openvino'])
def test_a_quantised_file_says_int8(tiny_onnx: Path, tmp_path: Path, engine: str) -> None:
    path = changed(tiny_onnx, tmp_path / 'a.onnx', with_options(precision='int8'))
    assert Predictor.from_checkpoint(path, device='cpu', engine=engine, threads=1).engine.precision == 'int8'


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda m: m.clear(), 'not an exported network of sembox_ros'),
        (lambda m: m.pop('export'), 'not an exported network of sembox_ros'),
        (lambda m: m.pop('format'), 'format=sembox_ros'),
        (lambda m: m.pop('labels'), "metadata 'labels' is missing"),
        (lambda m: m.update(model='{'), "metadata 'model' is not JSON"),
        (lambda m: m.update(model='[]'), 'should be a JSON dict'),
        (lambda m: m.update(model=json.dumps({**json.loads(m['model']), 'semantic_classes': 3})), '19 names, .* 3'),
        (lambda m: m.update(model=json.dumps({**json.loads(m['model']), 'name': 'nonsense'})), 'nonsense'),
        (lambda m: m.update(format_version='99'), 'upgrade the package'),
        (lambda m: m.update(export='nonsense'), "'export' is not JSON"),
        (lambda m: m.update(export='[]'), "'export' should be a JSON dict"),
        (with_options(size_hw=5), 'size_hw'),
        (with_options(size_hw=[100, 100]), 'multiples of 128'),
        (with_options(size_hw=['a', None]), 'two whole numbers'),
        (with_options(precision='int3'), 'precision: expected one of'),
        (with_options(surprise=1), "unknown option 'surprise'"),
        (with_options(batch=4), 'exported for 4 images at a time, .*--batch 1'),
        (with_options(preprocessing=True), 'exported with --preprocessing, .* other runtimes'),
        (with_options(argmax=True), 'exported with --argmax, .* other runtimes'),
    ],
)
def test_metadata_that_does_not_fit_is_refused(
    tiny_onnx: Path, tmp_path: Path, change: Callable[[dict[str, str]], Any], words: str
) -> None:
    path = changed(tiny_onnx, tmp_path / 'changed.onnx', change)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_exported(path)
    assert str(caught.value).startswith(str(path))
    assert '\n' not in str(caught.value)


def test_truncated_and_missing_files_are_refused(tiny_onnx: Path, tiny_openvino: Path, tmp_path: Path) -> None:
    (tmp_path / 'half.onnx').write_bytes(tiny_onnx.read_bytes()[:-1000])
    shutil.copy(tiny_openvino, tmp_path / 'alone.xml')
    for name, words in (
        ('half.onnx', 'not a readable .onnx'),
        ('alone.xml', 'not a readable .xml'),
        ('no.onnx', 'does not exist'),
    ):
        with pytest.raises(CheckpointError, match=words) as caught:
            load_exported(tmp_path / name)
        assert '\n' not in str(caught.value)


def test_weights_in_another_file_are_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    path = tmp_path / 'external.onnx'
    onnx.save(onnx.load(tiny_onnx), path, save_as_external_data=True, location='weights.bin')
    with pytest.raises(CheckpointError, match='weights lie in another file'):
        load_exported(path)


@pytest.mark.parametrize('suffix', ['.onnx', '.xml'])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_random_bytes_are_refused_in_one_line(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f'random{suffix}'
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        load_exported(path)
    assert '\n' not in str(caught.value)


def test_a_checkpoint_is_exported_once(tiny: Checkpoint, tiny_checkpoint_path: Path) -> None:
    path = find_graph(tiny)
    before = path.stat().st_mtime_ns
    assert find_graph(load_checkpoint(tiny_checkpoint_path)) == path
    assert path.stat().st_mtime_ns == before
    assert [p.name for p in path.parent.iterdir() if p.name.startswith('.')] == []


def test_the_key_follows_the_weights(tiny: Checkpoint, tiny_checkpoint_path: Path) -> None:
    other = load_checkpoint(tiny_checkpoint_path)
    assert network_key(other) == network_key(tiny)
    next(iter(other.model.parameters())).data[0] += 1e-3
    assert network_key(other) != network_key(tiny)
