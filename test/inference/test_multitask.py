"""Networks of encoder and decoders through the predictor: masks alone, and three tasks from image and flow."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sembox_ros.config import DetectionConfig
from sembox_ros.errors import ConfigError, InputError
from sembox_ros.inference.export import ExportOptions, check_export, save_openvino
from sembox_ros.inference.graphs import find_graph
from sembox_ros.inference.predictor import OUTPUTS, Predictor
from sembox_ros.inference.verification import verify_export
from sembox_ros.labels import SceneLabels
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sembox_ros.models.zoo import create_model
from sembox_ros.ops.flow import measure_flow
from sembox_ros.postprocess.maps import LOG_DEPTH_RANGE

_ANY = DetectionConfig(score_threshold=0.0)
CONTENT = {'semantic', 'confidence', 'depth', 'motion'}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])


@pytest.fixture(scope='module')
def multitask(tiny_multitask: Checkpoint) -> Predictor:
    return Predictor(tiny_multitask, device='cpu', engine='torch', threads=1)


def test_masks_alone_have_no_detections(tiny_masks: Checkpoint):
    predictor = Predictor(tiny_masks, device='cpu', engine='torch', threads=1)
    assert predictor.parts == {'semantic', 'confidence'}
    assert tiny_masks.labels.has_instances  # its label sets do not say that nobody finds any
    [scene] = predictor.predict([picture(120, 200)])
    assert scene.semantic is not None
    assert scene.semantic.shape == (120, 200)
    assert len(np.unique(scene.semantic)) > 3
    assert [name for name in OUTPUTS if getattr(scene, name) is not None and name not in predictor.parts] == []
    with pytest.raises(ConfigError, match='fusion: boxes needs a network with a box head'):
        predictor.predict([picture(8, 8)], detection=dataclasses.replace(_ANY, fusion='boxes'))


def test_every_part_has_the_size_of_its_image(multitask: Predictor):
    images = [picture(*size, seed=i) for i, size in enumerate(((120, 240), (1, 1), (97, 31), (2, 600), (256, 512)))]
    assert multitask.parts == CONTENT
    for image, scene in zip(images, multitask.predict(images, previous=[i[:, ::-1] for i in images]), strict=True):
        for name in CONTENT:
            assert getattr(scene, name).shape == image.shape[:2], name
        assert scene.depth is not None
        assert scene.motion is not None
        assert scene.depth.dtype == np.float32
        assert (scene.depth > 0).all()
        assert scene.motion.dtype == np.bool_
        assert scene.detections is scene.instances is scene.panoptic is None


def test_depth_and_motion_equal_those_of_the_network_s_maps(multitask: Predictor, tiny_multitask: Checkpoint):
    image = picture(128, 256)
    flow = np.random.default_rng(1).normal(0, 3, (128, 256, 2)).astype(np.float32)
    [scene] = multitask.predict([image], flows=[flow])
    mean, std = (torch.tensor(v)[:, None, None] for v in (tiny_multitask.input.mean, tiny_multitask.input.std))
    pixels = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
    with torch.inference_mode():
        output = tiny_multitask.model(torch.cat((pixels, torch.from_numpy(flow).permute(2, 0, 1) * 32 / 128))[None])
    log_depth, motion = (
        torch.nn.functional.interpolate(maps, (128, 256), mode='bilinear')[0, 0].numpy()
        for maps in (output.log_depth, output.motion_logits)
    )
    assert scene.depth is not None
    assert scene.motion is not None
    assert np.abs(np.log(scene.depth) - log_depth.clip(*LOG_DEPTH_RANGE)).max() < 1e-3
    assert log_depth.std() > 0.01
    assert (scene.motion == (motion > 0)).mean() > 0.999
    assert 0 < scene.motion.mean() < 1


def test_what_moved_since_the_image_before_counts(multitask: Predictor):
    image = picture(128, 256)
    before = np.roll(image, 6, axis=1)
    still, unknown, moved = multitask.predict([image] * 3, previous=[image, None, before])
    other = multitask.predict([image], previous=[picture(128, 250)])[0]
    [known] = multitask.predict([image], flows=[measure_flow(image, before, (128, 256))])
    for name in ('depth', 'semantic', 'motion'):
        parts = [getattr(scene, name) for scene in (still, unknown, moved, other, known)]
        assert np.array_equal(parts[0], parts[1]), name
        assert np.array_equal(parts[1], parts[3]), name
        assert np.allclose(parts[2], parts[4], rtol=1e-4), name
        assert not np.array_equal(parts[0], parts[2]), name


@pytest.mark.parametrize('part', ['depth', 'motion'])
def test_parts_come_alone(multitask: Predictor, part: str):
    [scene] = multitask.predict([picture(64, 64)], outputs={part})
    assert {name for name in OUTPUTS if getattr(scene, name) is not None} == {part}


def test_wrong_flows_and_previous_images_are_refused(multitask: Predictor):
    image = picture(16, 16)
    with pytest.raises(InputError, match=r'previous: expected one for each of 2 image\(s\), got 1'):
        multitask.predict([image, image], previous=[None])
    with pytest.raises(InputError, match=r'image: expected \(H, W, 3\) uint8 rgb, got \(16, 16\)'):
        multitask.predict([image], previous=[image[..., 0]])
    with pytest.raises(InputError, match=r'flows: expected shape \(16, 16, 2\), got \(16, 8, 2\)'):
        multitask.predict([image], flows=[np.zeros((16, 8, 2), np.float32)])


def test_a_file_gives_what_was_saved(tiny_multitask: Checkpoint, multitask: Predictor, tmp_path: Path):
    path = tmp_path / 'multitask.safetensors'
    save_checkpoint(tiny_multitask, path)
    loaded = load_checkpoint(path)
    assert loaded.config == tiny_multitask.config
    [scene], [wanted] = (
        p.predict([picture(128, 256)], previous=[picture(128, 256, seed=1)])
        for p in (Predictor(loaded, device='cpu', engine='torch', threads=1), multitask)
    )
    assert np.array_equal(scene.depth, wanted.depth)


def test_depth_alone_is_a_network_too(tiny_multitask: Checkpoint):
    config = dataclasses.replace(tiny_multitask.config, tasks=('depth',), semantic_classes=0, inputs=('image',))
    labels = SceneLabels(None, tiny_multitask.labels.detection)
    checkpoint = Checkpoint(create_model(config).eval(), config, labels, tiny_multitask.input, trained=False)
    predictor = Predictor(checkpoint, device='cpu', engine='torch', threads=1)
    assert predictor.parts == {'depth'}
    [scene] = predictor.predict([picture(100, 100)])
    assert scene.depth is not None
    assert scene.semantic is scene.motion is None
    assert math.log(float(np.median(scene.depth))) == pytest.approx(math.log(20), abs=1.5)  # as it was initialised


def test_exports_are_verified_on_image_and_flow(tiny_multitask: Checkpoint, tmp_path: Path):
    import onnx

    path = find_graph(tiny_multitask)
    differences = verify_export(path, tiny_multitask, ExportOptions())
    assert {d.output for d in differences} == {'semantic_logits', 'log_depth', 'motion_logits'}
    assert {d.shape[1] for d in differences} == {5}
    save_openvino(onnx.load(path), tmp_path / 'net.xml')
    image, before = picture(128, 256), picture(128, 256, seed=1)
    exported = Predictor.from_checkpoint(tmp_path / 'net.xml', device='cpu', engine='openvino', threads=1)
    plain = Predictor(tiny_multitask, device='cpu', engine='torch', threads=1)
    [scene], [wanted] = (p.predict([image], previous=[before]) for p in (exported, plain))
    assert np.allclose(scene.depth, wanted.depth, rtol=2e-3)
    assert (scene.motion == wanted.motion).mean() > 0.999


def test_preprocessing_in_the_graph_knows_images_alone(tiny_multitask: Checkpoint):
    with pytest.raises(ConfigError, match=r'--preprocessing: takes images alone, but .* takes image and flow'):
        check_export(tiny_multitask, ExportOptions(preprocessing=True))
