from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from made_instances import CANVAS_HW, GRIDS, SURE, raw_tensors, rectangle
from torch import Tensor

from sembox_ros.config import DetectionConfig
from sembox_ros.errors import ConfigError
from sembox_ros.labels import SceneLabels, load_scene_labels
from sembox_ros.models.zoo import find_model
from sembox_ros.ops.anchors import create_anchors
from sembox_ros.ops.boxes import encode_boxes
from sembox_ros.ops.placement import Placement
from sembox_ros.panoptic import VOID
from sembox_ros.postprocess.scene import PARTS, Decoding, choose_fusion, decode_scene, parts_of
from sembox_ros.types import Scene

LABELS = load_scene_labels('cityscapes_19+cityscapes_things_8')
assert LABELS.semantic is not None
ROAD, SKY, CAR = (LABELS.semantic.names.index(name) for name in ('road', 'sky', 'car'))
BOX_CAR = LABELS.detection.names.index('car')
WHOLE = Placement(CANVAS_HW, CANVAS_HW, CANVAS_HW)
ANCHORS = create_anchors(CANVAS_HW)
DECODING = Decoding(LABELS, ANCHORS, GRIDS, ((64, 128), (128, 256)), 'canvas')
LEFT, RIGHT = (20.0, 20.0, 100.0, 80.0), (140.0, 40.0, 220.0, 100.0)


class Raw(NamedTuple):
    """As `models.sembox.NetworkOutput`."""

    class_logits: Tensor | None
    box_regression: Tensor | None
    semantic_logits: Tensor | None
    category_logits: Tensor | None
    mask_kernels: Tensor | None
    mask_features: Tensor | None
    log_depth: Tensor | None = None
    motion_logits: Tensor | None = None


def raw_scene() -> Raw:
    """Two cars on a road below a bit of sky, 20 m away; the box head sees the left one only, the instance head both."""
    semantic = torch.full((19, 32, 64), -6.0)
    semantic[ROAD] = 6.0
    semantic[SKY, 0, 0], semantic[ROAD, 0, 0] = 6.0, -6.0  # some 16 pixels; a 1024th of the image are 32
    for x0, y0, x1, y1 in (LEFT, RIGHT):
        place = (slice(int(y0 // 4), int(y1 // 4)), slice(int(x0 // 4), int(x1 // 4)))
        semantic[:, place[0], place[1]] = -6.0
        semantic[CAR, place[0], place[1]] = 6.0
    class_logits, regression = torch.full((len(ANCHORS), 8), -9.0), torch.zeros(len(ANCHORS), 4)
    box = torch.tensor(LEFT)
    nearest = int((ANCHORS - box).abs().sum(dim=1).argmin())
    class_logits[nearest, BOX_CAR], regression[nearest] = SURE, encode_boxes(box, ANCHORS[nearest])
    masks = raw_tensors([(rectangle(*LEFT), 0, BOX_CAR, SURE), (rectangle(*RIGHT), 20, BOX_CAR, SURE - 1)])
    log_depth, motion_logits = torch.full((1, 32, 64), math.log(20.0)), torch.full((1, 32, 64), -1.0)
    motion_logits[:, :, 32:] = 1.0
    return Raw(*(t[None] for t in (class_logits, regression, semantic, *masks, log_depth, motion_logits)))


def decode(raw: Raw, labels: SceneLabels = LABELS, wanted: frozenset[str] = PARTS, **options: Any) -> Scene:
    decoding = dataclasses.replace(DECODING, labels=labels)
    return decode_scene(raw, 0, WHOLE, decoding, detection=DetectionConfig(**options), wanted=wanted)


@pytest.mark.parametrize(('fusion', 'cars'), [('boxes', 1), ('heuristic', 2), ('efficientps', 2), ('auto', 2)])
def test_detections_instances_and_panoptic_say_the_same(fusion: str, cars: int) -> None:
    scene = decode(raw_scene(), fusion=fusion)
    assert scene.semantic is not None
    assert scene.detections is not None
    assert scene.instances is not None
    assert scene.panoptic is not None
    assert scene.segments is not None
    assert scene.detections.ids.tolist() == list(range(1, cars + 1))
    np.testing.assert_allclose(scene.detections.boxes_xyxy, [LEFT, RIGHT][:cars], atol=0.5)
    assert scene.instances[50, 60] == 1
    assert scene.instances[70, 180] == cars * (cars - 1)
    assert scene.panoptic[50, 60] == CAR * 65536 + 1
    assert scene.panoptic[70, 180] == (CAR * 65536 + 2 if cars == 2 else VOID)
    assert scene.panoptic[120, 10] == ROAD * 65536
    assert scene.segments.ids.tolist() == [ROAD * 65536, *(CAR * 65536 + i for i in scene.detections.ids)]
    assert scene.segments.scores[1:].tolist() == scene.detections.scores.tolist()


def test_stuff_of_a_few_pixels_is_void() -> None:
    raw = raw_scene()
    assert raw.semantic_logits is not None
    scene = decode(raw)
    assert scene.semantic is not None
    assert scene.panoptic is not None
    sky = scene.semantic == SKY
    assert 8 < sky.sum() < 32
    assert (scene.panoptic[sky] == VOID).all()
    raw.semantic_logits[0, SKY, :2, :16] = 12.0
    larger = decode(raw)
    assert larger.panoptic is not None
    assert (larger.panoptic == SKY * 65536).sum() > 200


@pytest.mark.parametrize('fusion', ['boxes', 'heuristic', 'efficientps'])
def test_detections_do_not_depend_on_who_asks(fusion: str) -> None:
    whole = decode(raw_scene(), fusion=fusion).detections
    alone = decode(raw_scene(), wanted=frozenset({'detections'}), fusion=fusion)
    assert alone.instances is None
    assert alone.semantic is None
    assert alone.detections is not None
    assert whole is not None
    np.testing.assert_array_equal(alone.detections.boxes_xyxy, whole.boxes_xyxy)
    np.testing.assert_array_equal(alone.detections.ids, whole.ids)


@pytest.mark.parametrize(
    'wanted',
    [{'instances'}, {'panoptic'}, {'semantic', 'instances'}, set()],
    ids=lambda names: '+'.join(sorted(names)),
)
def test_only_what_is_wanted_is_there(wanted: set[str]) -> None:
    whole, scene = decode(raw_scene()), decode(raw_scene(), wanted=frozenset(wanted))
    for name in PARTS - {'detections'}:
        part = getattr(scene, name)
        assert (part is not None) == (name in wanted), name
        if part is not None:
            np.testing.assert_array_equal(part, getattr(whole, name))
    assert scene.detections is None
    assert (scene.segments is not None) == ('panoptic' in wanted)


def test_networks_that_lack_a_head() -> None:
    raw = raw_scene()
    masks_only = decode(raw._replace(class_logits=None, box_regression=None))
    assert masks_only.detections is not None
    assert len(masks_only.detections) == 2
    boxes_only = decode(raw._replace(category_logits=None, mask_kernels=None, mask_features=None))
    assert boxes_only.detections is not None
    assert len(boxes_only.detections) == 1
    assert boxes_only.instances is not None
    detector = decode(raw._replace(semantic_logits=None), SceneLabels(None, LABELS.detection))
    assert detector.detections is not None
    assert detector.semantic is detector.instances is detector.panoptic is detector.segments is None
    pixels = decode(Raw(None, None, raw.semantic_logits, None, None, None))
    assert pixels.semantic is not None
    assert pixels.detections is pixels.instances is pixels.panoptic is pixels.depth is pixels.motion is None


def test_depth_and_motion_are_those_of_their_maps() -> None:
    raw = raw_scene()
    scene = decode(raw._replace(class_logits=None, category_logits=None))
    assert scene.depth is not None
    assert scene.motion is not None
    np.testing.assert_allclose(scene.depth, 20.0, rtol=1e-5)
    assert scene.motion.mean() == pytest.approx(0.5, abs=0.01)
    assert scene.motion[:, 130:].all()


@pytest.mark.parametrize(
    ('name', 'options', 'labels', 'parts'),
    [
        ('sembox_b1', {}, LABELS, PARTS - {'depth', 'motion'}),
        ('sembox_b1', {}, SceneLabels(LABELS.semantic, LABELS.detection), {'semantic', 'confidence', 'detections'}),
        ('efficientdet_d0', {}, SceneLabels(None, LABELS.detection), {'detections'}),
        ('mobilenetv2_fpn_lite', {}, LABELS, {'semantic', 'confidence'}),
        ('mobilenetv2_s16_multitask', {}, LABELS, {'semantic', 'confidence', 'depth', 'motion'}),
        (
            'mobilenetv2_s16_multitask', {'tasks': ('depth',), 'semantic_classes': 0},
            SceneLabels(None, LABELS.detection), {'depth'},
        ),
    ],
)  # fmt: skip
def test_parts_that_a_network_gives(name: str, options: dict[str, Any], labels: SceneLabels, parts: set[str]) -> None:
    assert parts_of(dataclasses.replace(find_model(name).config, **options), labels) == parts


def test_labels_that_do_not_link_have_no_instances() -> None:
    for fusion in ('boxes', 'efficientps'):
        scene = decode(raw_scene(), SceneLabels(LABELS.semantic, LABELS.detection), fusion=fusion)
        assert scene.detections is not None
        assert scene.semantic is not None
        assert scene.instances is scene.panoptic is scene.segments is None


@pytest.mark.parametrize(
    ('name', 'has_boxes', 'has_masks', 'chosen'),
    [
        ('auto', True, False, 'boxes'), ('auto', True, True, 'efficientps'), ('auto', False, True, 'efficientps'),
        ('boxes', True, True, 'boxes'), ('heuristic', True, True, 'heuristic'), ('auto', False, False, 'auto'),
    ],
)  # fmt: skip
def test_choice_of_the_fusion(name: str, has_boxes: bool, has_masks: bool, chosen: str) -> None:
    assert choose_fusion(name, has_boxes=has_boxes, has_masks=has_masks) == chosen


def test_fusion_that_the_network_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'fusion: boxes needs a network with a box head, .* none; use .* auto'):
        choose_fusion('boxes', has_boxes=False, has_masks=True)
    for name in ('heuristic', 'efficientps'):
        with pytest.raises(ConfigError, match=rf'fusion: {name} needs .* instance head, .* none; use boxes or auto'):
            choose_fusion(name, has_boxes=True, has_masks=False)
    for name in ('boxes', 'efficientps'):
        with pytest.raises(ConfigError, match=r'none; use auto$'):
            choose_fusion(name, has_boxes=False, has_masks=False)
