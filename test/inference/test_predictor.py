from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sembox_ros.config import DetectionConfig, InputConfig, ModelConfig
from sembox_ros.errors import CheckpointError, ConfigError, InputError
from sembox_ros.inference import predictor as predictor_module
from sembox_ros.inference.predictor import OUTPUTS, STAGES, Predictor, choose_device
from sembox_ros.labels import CITYSCAPES_19, CITYSCAPES_20, COCO_90, SceneLabels, load_scene_labels
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint
from sembox_ros.models.sembox import NetworkOutput
from sembox_ros.models.zoo import create_model
from sembox_ros.ops.anchors import create_anchors
from sembox_ros.types import Detections, Scene

# Random weights are sure of nothing: take boxes of any score.
ANY_BOX = DetectionConfig(score_threshold=0.001, max_detections=40)
SIZES = [(120, 240), (1, 1), (97, 31), (1, 3000), (128, 256), (3000, 2), (2, 2), (64, 300)]


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coarse coloured noise, so that neighbouring pixels resemble each other."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])


@pytest.fixture(scope='module', autouse=True)
def restored_threads() -> Iterator[None]:
    """A predictor sets torch's threads for the whole process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def predictor(tiny_checkpoint_path: Path) -> Predictor:
    return Predictor.from_checkpoint(tiny_checkpoint_path, device='cpu', engine='torch', threads=1)


@pytest.fixture(scope='module')
def images() -> list[np.ndarray]:
    return [photo(*size, seed=i) for i, size in enumerate(SIZES)]


@pytest.fixture(scope='module')
def scenes(predictor: Predictor, images: list[np.ndarray]) -> list[Scene]:
    return predictor.predict(images, detection=ANY_BOX)


def with_input(path: Path, **changes: Any) -> Predictor:
    """The tiny checkpoint with another input geometry."""
    checkpoint = load_checkpoint(path)
    return Predictor(
        dataclasses.replace(checkpoint, input=dataclasses.replace(checkpoint.input, **changes)),
        device='cpu',
        engine='torch',
        threads=1,
    )


def check_scene(scene: Scene, size_hw: tuple[int, int]) -> Detections:
    """A scene with all parts, at the size of its image; its detections."""
    height, width = size_hw
    assert scene.size_hw == size_hw
    assert scene.semantic is not None
    assert scene.confidence is not None
    assert scene.detections is not None
    assert scene.semantic.shape == scene.confidence.shape == size_hw
    assert scene.semantic.max() < len(CITYSCAPES_19)
    assert scene.confidence.min() >= 255 // len(CITYSCAPES_19)  # the winner of 19 has at least a 19th
    boxes = scene.detections.boxes_xyxy
    assert (boxes >= 0).all()
    assert (boxes[:, [0, 2]] <= width).all()
    assert (boxes[:, [1, 3]] <= height).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (np.diff(scene.detections.scores) <= 0).all()
    return scene.detections


def assert_same(first: Scene, second: Scene) -> None:
    """Equal but for what the order of additions in another batch size may change."""
    assert first.size_hw == second.size_hw
    assert first.semantic is not None
    assert second.semantic is not None
    assert (first.semantic != second.semantic).mean() < 1e-3
    difference = np.abs(first.confidence.astype(int) - second.confidence.astype(int))  # type: ignore[union-attr]
    assert difference.max() <= 1
    assert first.detections is not None
    assert second.detections is not None
    np.testing.assert_array_equal(first.detections.class_ids, second.detections.class_ids)
    np.testing.assert_allclose(first.detections.scores, second.detections.scores, atol=1e-5)
    np.testing.assert_allclose(first.detections.boxes_xyxy, second.detections.boxes_xyxy, atol=0.02)


def test_images_of_all_sizes_come_back_in_order(scenes: list[Scene]) -> None:
    assert len(scenes) == len(SIZES)
    found = [check_scene(scene, size) for scene, size in zip(scenes, SIZES, strict=True)]
    assert max(len(boxes) for boxes in found) > 5  # otherwise the checks above look at nothing


def test_scene_depends_on_the_image(predictor: Predictor) -> None:
    first, second = predictor.predict([photo(128, 256, seed=1), photo(128, 256, seed=2)])
    assert first.semantic is not None
    assert second.semantic is not None
    assert (first.semantic != second.semantic).mean() > 0.01


@pytest.mark.parametrize('index', range(len(SIZES)))
def test_image_alone_gives_what_it_gives_among_others(
    predictor: Predictor, images: list[np.ndarray], scenes: list[Scene], index: int
) -> None:
    assert_same(predictor.predict([images[index]], detection=ANY_BOX)[0], scenes[index])


def test_order_of_the_images_does_not_matter(
    predictor: Predictor, images: list[np.ndarray], scenes: list[Scene]
) -> None:
    for scene, reverse in zip(scenes, predictor.predict(images[::-1], detection=ANY_BOX)[::-1], strict=True):
        assert_same(scene, reverse)


def test_images_of_one_canvas_run_as_one_batch(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    plain = predictor.engine

    def watched(batch: torch.Tensor) -> Any:
        shapes.append(tuple(batch.shape))
        return plain(batch)

    watched.device = plain.device  # type: ignore[attr-defined]
    monkeypatch.setattr(predictor, 'engine', watched)
    predictor.predict([photo(120, 240), photo(128, 128), photo(60, 120), photo(64, 64)])
    assert shapes == [(2, 3, 128, 256), (2, 3, 128, 128)]


def test_images_are_not_changed(predictor: Predictor) -> None:
    image = photo(100, 200)
    before = image.copy()
    predictor.predict([image])
    assert np.array_equal(image, before)


def test_no_images_give_no_scenes(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


@pytest.mark.parametrize(
    'wanted',
    [
        {'semantic'}, {'confidence'}, {'detections'}, {'instances'}, {'panoptic'}, {'semantic', 'confidence'},
        {'confidence', 'detections'}, {'instances', 'panoptic'}, set(),
    ],
    ids=lambda names: '+'.join(sorted(names)),
)  # fmt: skip
def test_only_what_is_asked_for_is_there(predictor: Predictor, images: list[np.ndarray], wanted: set[str]) -> None:
    whole = predictor.predict(images[:1], detection=ANY_BOX)[0]
    scene = predictor.predict(images[:1], detection=ANY_BOX, outputs=wanted)[0]
    for name in OUTPUTS:
        assert (getattr(scene, name) is not None) == (name in wanted), name
    assert (scene.segments is not None) == ('panoptic' in wanted)
    for name in wanted - {'detections'}:
        np.testing.assert_array_equal(getattr(scene, name), getattr(whole, name))


def test_detection_thresholds_are_used(predictor: Predictor, images: list[np.ndarray]) -> None:
    everything = predictor.predict(images[:1], detection=ANY_BOX)[0].detections
    assert everything is not None
    assert len(everything) > 5
    middle = float(everything.scores[len(everything) // 2])
    few = predictor.predict(images[:1], detection=dataclasses.replace(ANY_BOX, score_threshold=middle))[0].detections
    assert few is not None
    assert 0 < len(few) < len(everything)
    assert few.scores.min() >= middle - 1e-6
    three = predictor.predict(images[:1], detection=dataclasses.replace(ANY_BOX, max_detections=3))[0].detections
    assert three is not None
    np.testing.assert_array_equal(three.boxes_xyxy, everything.boxes_xyxy[:3])


def test_timings_of_every_stage_are_positive(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert tuple(scene.timings_ms) == STAGES
        assert all(0 < spent < 60_000 for spent in scene.timings_ms.values())


@pytest.mark.parametrize(
    'image',
    [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), np.zeros((0, 8, 3), np.uint8), None, 'image.png'],
    ids=['float', 'grey', 'empty', 'none', 'text'],
)
def test_wrong_image_is_refused_even_among_good_ones(predictor: Predictor, image: Any) -> None:
    with pytest.raises(InputError, match='image:'):
        predictor.predict([photo(16, 16), image])


def test_one_array_instead_of_a_list_is_refused(predictor: Predictor) -> None:
    with pytest.raises(InputError, match='image:'):
        predictor.predict(photo(16, 16))  # type: ignore[arg-type]


@pytest.mark.parametrize('outputs', [{'segments'}, {'semantic', 'boxes'}, 'semantic'])
def test_unknown_output_is_refused(predictor: Predictor, outputs: Any) -> None:
    words = r"outputs: expected some of \['confidence', 'depth', 'detections', 'instances', "
    with pytest.raises(ConfigError, match=words):
        predictor.predict([photo(16, 16)], outputs=outputs)


@pytest.mark.parametrize('name', ['gpu', 'cuda:x', 'cuda:-1', 'cuda:', 'cpu:0', 'cpu:', '', 'CPU', 'cpu,cuda', 'mps'])
def test_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r'device: expected auto, cpu, cuda or cuda:N'):
        choose_device(name)


@pytest.mark.parametrize(('count', 'name'), [(0, 'cuda'), (0, 'cuda:0'), (2, 'cuda:2')])
def test_device_that_is_not_there_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, count: int, name: str
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: count > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
    with pytest.raises(ConfigError, match=rf"'{name}' is not available, torch finds {count} .*use device:=cpu"):
        choose_device(name)


@pytest.mark.parametrize(
    ('count', 'name', 'expected'),
    [(0, 'auto', 'cpu'), (1, 'auto', 'cuda'), (2, 'cuda:1', 'cuda:1'), (2, 'cpu', 'cpu')],
)
def test_device_is_chosen(monkeypatch: pytest.MonkeyPatch, count: int, name: str, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: count > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
    assert choose_device(name) == torch.device(expected)


def test_wrong_device_is_refused_before_the_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='device:'):
        Predictor.from_checkpoint(tmp_path / 'none.safetensors', device='abacus')


def test_missing_checkpoint_and_wrong_precision_are_refused(tmp_path: Path, tiny_checkpoint_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r'none\.safetensors'):
        Predictor.from_checkpoint(tmp_path / 'none.safetensors', device='cpu', engine='torch')
    with pytest.raises(ConfigError, match='precision:'):
        Predictor.from_checkpoint(tiny_checkpoint_path, device='cpu', engine='torch', precision='int8')


def test_no_path_means_the_bundled_checkpoint(tiny_checkpoint_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor_module, 'load_bundled', lambda: load_checkpoint(tiny_checkpoint_path))
    predictor = Predictor.from_checkpoint(device='cpu', engine='torch', threads=1)
    assert predictor.labels.semantic == CITYSCAPES_19
    assert predictor.device == torch.device('cpu')
    assert predictor.device_memory_bytes() == 0


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_half_precision_runs_on_the_cpu(
    tiny_checkpoint_path: Path, images: list[np.ndarray], scenes: list[Scene], precision: str
) -> None:
    half = Predictor.from_checkpoint(tiny_checkpoint_path, device='cpu', engine='torch', precision=precision, threads=1)
    results = half.predict(images[:4], detection=ANY_BOX)
    for scene, size in zip(results, SIZES, strict=False):
        check_scene(scene, size)
    assert results[0].semantic is not None
    assert (results[0].semantic == scenes[0].semantic).mean() > 0.8  # random weights: many near ties


def test_stretched_images_come_back_at_their_own_size(tiny_checkpoint_path: Path, images: list[np.ndarray]) -> None:
    predictor = with_input(tiny_checkpoint_path, resize='stretch')
    for scene, size in zip(predictor.predict(images, detection=ANY_BOX), SIZES, strict=True):
        check_scene(scene, size)
    assert set(predictor._decodings) == {(128, 256)}


def test_bgr_weights_see_the_flipped_image(
    tiny_checkpoint_path: Path, images: list[np.ndarray], scenes: list[Scene]
) -> None:
    predictor = with_input(tiny_checkpoint_path, channel_order='bgr')
    flipped = predictor.predict([images[0][:, :, ::-1]], detection=ANY_BOX)[0]
    assert_same(flipped, scenes[0])


def test_threads_are_set_for_torch(tiny_checkpoint_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(torch, 'set_num_threads', given.append)
    monkeypatch.setattr(predictor_module.os, 'cpu_count', lambda: 7)
    for threads in (3, 0):
        Predictor.from_checkpoint(tiny_checkpoint_path, device='cpu', engine='torch', threads=threads)
    assert given == [3, 3, 7, 7]  # the engine's and the postprocessing's


def test_anchors_of_ever_new_sizes_do_not_pile_up(predictor: Predictor) -> None:
    for step in range(20):
        predictor.predict([photo(2, 2 * (step + 1))])
    assert len(predictor._decodings) <= 8


def test_out_of_device_memory_is_explained(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_batch: torch.Tensor) -> None:
        raise torch.cuda.OutOfMemoryError('CUDA out of memory.\nMore lines')

    monkeypatch.setattr(predictor.engine, '_model', full)
    with pytest.raises(InputError, match=r'out of device memory with 1 image.* on a 128x256 canvas.*fp16') as caught:
        predictor.predict([photo(128, 256)])
    assert '\n' not in str(caught.value)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(tiny_checkpoint_path: Path, images: list[np.ndarray], scenes: list[Scene]) -> None:
    exact = Predictor.from_checkpoint(tiny_checkpoint_path, device='cuda', engine='torch', precision='fp32')
    half = Predictor.from_checkpoint(tiny_checkpoint_path, device='cuda', engine='torch')
    for result, rough, scene, size in zip(
        exact.predict(images, detection=ANY_BOX), half.predict(images, detection=ANY_BOX), scenes, SIZES, strict=True
    ):
        check_scene(result, size)
        check_scene(rough, size)
        assert result.semantic is not None
        assert (result.semantic == scene.semantic).mean() > 0.97
    assert exact.device_memory_bytes() > 0


class FixedNetwork(nn.Module):
    """One box of known place, and a whole-image semantic output that is class 1 left and class 2 right."""

    canvas_hw = (256, 256)

    def __init__(self, anchor: int) -> None:
        super().__init__()
        self.anchor = anchor
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> NetworkOutput:
        self.seen.append(images)
        anchors = len(create_anchors(self.canvas_hw))
        class_logits = torch.full((len(images), anchors, 90), -20.0)
        class_logits[:, self.anchor, 3] = 5.0
        semantic_logits = torch.zeros(len(images), 20, 64, 128)
        semantic_logits[:, 1, :, :64] = 9.0
        semantic_logits[:, 2, :, 64:] = 9.0
        return NetworkOutput(class_logits, torch.zeros(len(images), anchors, 4), semantic_logits)


def test_boxes_lie_on_the_fixed_canvas_and_semantics_cover_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    anchors = create_anchors((256, 256))
    inside = (anchors[:, :2] > 8).all(1) & (anchors[:, 2] < 200) & (anchors[:, 3] < 100)
    network = FixedNetwork(int(inside.nonzero()[-1]))
    config = ModelConfig(name='semanticboxnet_v1', semantic_classes=20)
    geometry = InputConfig(size_hw=(256, 256), resize='letterbox_fixed', semantic_extent='image')
    labels = SceneLabels.linked_by_name(CITYSCAPES_20, COCO_90)
    predictor = Predictor(Checkpoint(network, config, labels, geometry), device='cpu', engine='torch', threads=1)
    monkeypatch.setattr(predictor.engine, '_model', network)
    image = np.full((300, 600, 3), 200, np.uint8)
    (scene,) = predictor.predict([image])
    assert tuple(network.seen[0].shape) == (1, 3, 256, 256)  # not trimmed to 128 rows
    assert (network.seen[0][:, :, 128:] == 0).all()
    assert scene.detections is not None
    # 600 pixels of the image are 256 of the canvas, in both directions.
    wanted = anchors[network.anchor].numpy() * (600 / 256)
    np.testing.assert_allclose(scene.detections.boxes_xyxy, wanted[None], rtol=1e-4)
    assert scene.detections.class_ids.tolist() == [3]
    assert scene.semantic is not None
    assert scene.semantic.shape == (300, 600)
    assert set(np.unique(scene.semantic[:, :297])) == {1}
    assert set(np.unique(scene.semantic[:, 303:])) == {2}


def test_fixed_canvas_gives_what_the_trimmed_one_gives(tiny_checkpoint_path: Path) -> None:
    # It fills the canvas, so that only the geometry code differs.
    image = photo(*load_checkpoint(tiny_checkpoint_path).input.size_hw, seed=4)
    trimmed, fixed = (
        with_input(tiny_checkpoint_path, resize=resize).predict([image], detection=ANY_BOX)[0]
        for resize in ('letterbox', 'letterbox_fixed')
    )
    assert_same(trimmed, fixed)


def test_network_runs_folded_and_the_checkpoint_keeps_its_norms(tiny_checkpoint_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint_path)
    predictor = Predictor(checkpoint, device='cpu', engine='torch', threads=1)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in predictor.engine._model.modules())
    assert any(isinstance(part, nn.BatchNorm2d) for part in checkpoint.model.modules())


def test_network_of_masks_alone_gives_boxes_and_instances(images: list[np.ndarray]) -> None:
    config = ModelConfig(
        name='sembox_b0', encoder='efficientnet-b0', neck_channels=16, neck_cells=1, semantic_channels=16,
        dpc_channels=16, detection_classes=8, box_head=False, instance_channels=8, instance_head_channels=16,
        instance_head_depth=1, instance_grids=(8, 6, 4, 3, 2),
    )  # fmt: skip
    labels = load_scene_labels('cityscapes_19+cityscapes_things_8')
    model = create_model(config, seed=0).eval()
    predictor = Predictor(
        Checkpoint(model, config, labels, InputConfig(size_hw=(128, 256)), trained=False),
        device='cpu', engine='torch', threads=1,
    )  # fmt: skip
    found = predictor.predict(images, detection=ANY_BOX)
    assert max(len(scene.detections) for scene in found) > 3
    for scene, size_hw in zip(found, SIZES, strict=True):
        detections = check_scene(scene, size_hw)
        assert scene.instances is not None
        assert scene.segments is not None
        assert set(np.unique(scene.instances)) <= {0, *detections.ids.tolist()}
        assert scene.segments.areas.sum() <= size_hw[0] * size_hw[1]
    [alone] = predictor.predict(images[:1], detection=ANY_BOX, outputs={'detections'})
    np.testing.assert_array_equal(alone.detections.boxes_xyxy, found[0].detections.boxes_xyxy)
    with pytest.raises(ConfigError, match='fusion: boxes needs a network with a box head'):
        predictor.predict(images[:1], detection=DetectionConfig(fusion='boxes'))


def test_fusion_of_masks_needs_an_instance_head(predictor: Predictor, images: list[np.ndarray]) -> None:
    assert predictor.choose_fusion(DetectionConfig()) == 'boxes'
    with pytest.raises(ConfigError, match='fusion: heuristic needs a network with an instance head'):
        predictor.predict(images[:1], detection=DetectionConfig(fusion='heuristic'))
