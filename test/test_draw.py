from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from sembox_ros.draw import (
    MOTION,
    colorize,
    colorize_depth,
    colorize_panoptic,
    draw_boxes,
    draw_legend,
    draw_overlay,
    instance_colors,
)
from sembox_ros.errors import InputError
from sembox_ros.labels import CITYSCAPES_19, COCO_90, LABEL_SETS, LabelSet, SceneLabels
from sembox_ros.types import Detections, Scene

LABELS = SceneLabels.linked_by_name(CITYSCAPES_19, COCO_90)


def boxes(*corners: tuple[float, float, float, float], class_id: int = 2) -> Detections:
    return Detections(
        boxes_xyxy=np.array(corners, np.float32).reshape(-1, 4),
        class_ids=np.full(len(corners), class_id, np.int64),
        scores=np.linspace(0.9, 0.5, len(corners), dtype=np.float32),
    )


def grey(height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


@pytest.mark.parametrize('labels', LABEL_SETS.values(), ids=lambda labels: labels.name)
def test_every_class_gets_its_colour_and_the_rest_is_black(labels: LabelSet) -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colors = colorize(ids, labels)
    assert colors.shape == (16, 16, 3)
    assert colors.dtype == np.uint8
    for class_id in range(256):
        expected = labels.palette[class_id] if class_id < len(labels) else (0, 0, 0)
        assert tuple(colors[class_id // 16, class_id % 16].tolist()) == expected


def test_colorize_takes_one_pixel_and_views() -> None:
    assert colorize(np.zeros((1, 1), np.uint8), CITYSCAPES_19).tolist() == [[[128, 64, 128]]]
    ids = np.random.default_rng(0).integers(0, 19, (10, 12), dtype=np.uint8)
    np.testing.assert_array_equal(colorize(ids[::2, ::3], CITYSCAPES_19), colorize(ids, CITYSCAPES_19)[::2, ::3])


def test_box_is_drawn_where_it_lies_in_its_colour_and_nowhere_else() -> None:
    image = grey()
    assert draw_boxes(image, boxes((30, 40, 90, 100)), COCO_90) is image
    color = COCO_90.palette[2]
    for x, y in ((30, 70), (90, 70), (60, 100), (85, 40)):
        assert np.abs(image[y, x] - np.array(color)).max() < 15, (x, y)  # antialiased with the grey beside it
    assert (image[60:95, 40:85] == 100).all()  # the inside
    changed = (image != 100).any(axis=2)
    assert not changed[104:].any()
    assert not changed[:, :27].any()
    assert not changed[:20].any()  # the text stands right above the box


def test_text_background_follows_the_class() -> None:
    person, car = (draw_boxes(grey(), boxes((30, 40, 90, 100), class_id=i), COCO_90) for i in (0, 2))
    assert not np.array_equal(person, car)
    for image, class_id in ((person, 0), (car, 2)):
        assert (image[25:40] == COCO_90.palette[class_id]).all(axis=2).sum() > 100


def test_boxes_at_and_beyond_the_border_and_of_no_area_do_not_fail() -> None:
    for size in ((1, 1), (2, 300), (120, 160)):
        image = grey(*size)
        draw_boxes(image, boxes((0, 0, size[1], size[0]), (0, 0, 0, 0), (-50, -50, 1000, 1000)), COCO_90)
        assert image.shape == (*size, 3)


def test_no_boxes_change_nothing() -> None:
    assert np.array_equal(draw_boxes(grey(), Detections.empty(), COCO_90), grey())


@pytest.mark.parametrize('alpha', [0.0, 0.25, 1.0])
def test_overlay_mixes_the_colours_in(alpha: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    semantic = np.random.default_rng(1).integers(0, 19, (6, 8), dtype=np.uint8)
    before = image.copy()
    mixed = draw_overlay(image, Scene((6, 8), semantic=semantic), LABELS, alpha=alpha)
    palette = np.asarray(CITYSCAPES_19.palette, float)
    expected = (1 - alpha) * image + alpha * palette[semantic]
    assert np.abs(mixed - expected).max() <= 1
    assert np.array_equal(image, before)


def test_overlay_uses_the_colours_at_hand() -> None:
    scene = Scene((4, 4), semantic=np.zeros((4, 4), np.uint8))
    color = np.full((4, 4, 3), 7, np.uint8)
    assert (draw_overlay(grey(4, 4), scene, LABELS, alpha=1.0, color=color) == 7).all()


def test_overlay_of_an_empty_scene_is_a_copy() -> None:
    image = grey()
    picture = draw_overlay(image, Scene((120, 160)), LABELS, alpha=0.5)
    assert np.array_equal(picture, image)
    assert picture is not image
    assert not np.shares_memory(picture, image)


def test_overlay_draws_boxes_on_top_and_spares_the_image() -> None:
    image = grey()
    found = boxes((30, 40, 90, 100))
    picture = draw_overlay(image, Scene((120, 160), detections=found), LABELS, alpha=0.5)
    assert np.array_equal(picture, draw_boxes(grey(), found, COCO_90))
    assert (image == 100).all()


@pytest.mark.parametrize(('width', 'rows'), [(1000, 1), (400, 2), (180, 4), (60, 4)])
def test_legend_shows_every_class_once(width: int, rows: int) -> None:
    ids = [0, 13, 11, 8]
    strip = draw_legend(CITYSCAPES_19, ids, width)
    assert strip.shape == (rows * 24 + 8, width, 3)
    assert strip.dtype == np.uint8
    for class_id in ids:
        patch = (strip == CITYSCAPES_19.palette[class_id]).all(axis=2)
        assert patch.sum() == 23 * 17  # both corners belong to OpenCV's rectangles
    assert (strip[:, :30] < 255).any()


def test_legend_of_no_classes_is_an_empty_strip() -> None:
    assert (draw_legend(CITYSCAPES_19, [], 300) == 255).all()


def test_ground_truth_is_drawn_without_scores() -> None:
    found = boxes((30, 40, 90, 100))
    image = draw_boxes(grey(), found, COCO_90, with_scores=False)
    scored = draw_boxes(grey(), found, COCO_90)
    assert (image[41:] == scored[41:]).all()  # the same box
    assert (image[:40] != 100).any(axis=2).sum() < (scored[:40] != 100).any(axis=2).sum()  # below a shorter text


CAR, ROAD, PERSON = (CITYSCAPES_19.names.index(name) for name in ('car', 'road', 'person'))


def panoptic_scene(*, ids: list[int] | None = None) -> Scene:
    """Two cars that touch, a car that no box found, all on a road."""
    semantic, instances = np.full((120, 160), ROAD, np.uint8), np.zeros((120, 160), np.uint16)
    numbers = [1, 2] if ids is None else ids
    for x, number in ((20, numbers[0]), (50, numbers[1]), (120, 0)):
        semantic[60:90, x : x + 30], instances[60:90, x : x + 30] = CAR, number
    found = boxes((20, 60, 50, 90), (50, 60, 80, 90))
    found = Detections(found.boxes_xyxy, found.class_ids, found.scores, np.array(numbers, np.int64))
    return Scene((120, 160), semantic=semantic, instances=instances, detections=found)


def test_panoptic_colours_tell_instances_apart_and_leave_void_black() -> None:
    picture = colorize_panoptic(panoptic_scene(), LABELS)
    assert picture.shape == (120, 160, 3)
    assert picture.dtype == np.uint8
    assert (picture[:60] == CITYSCAPES_19.palette[ROAD]).all()
    first, second = picture[75, 35].tolist(), picture[75, 65].tolist()
    assert np.abs(np.array(first) - np.array(second)).sum() > 40
    assert (picture[62:88, 22:48] == first).all()
    assert (picture[60:90, 49:51] == 255).all()  # the border between them
    assert (picture[60:90, 20] == 255).all()
    assert (picture[60:90, 120:150] == 0).all()


def test_tones_belong_to_ids() -> None:
    swapped = colorize_panoptic(panoptic_scene(ids=[2, 1]), LABELS)
    picture = colorize_panoptic(panoptic_scene(), LABELS)
    assert (picture[75, 35] == swapped[75, 65]).all()
    assert (picture[75, 65] == swapped[75, 35]).all()
    high = colorize_panoptic(panoptic_scene(ids=[65535, 300]), LABELS)
    assert (high[75, 35] != high[75, 65]).any()
    many = boxes(*[(0, 0, 1, 1)] * 40)
    tones = instance_colors(many, LABELS)
    assert len(set(tones)) == 40
    near = [np.abs(np.array(a) - np.array(b)).sum() for a, b in itertools.pairwise(tones)]
    assert min(near) > 30  # neighbours in number


@pytest.mark.parametrize('missing', ['semantic', 'instances', 'detections'])
def test_panoptic_colours_need_all_three(missing: str) -> None:
    with pytest.raises(InputError, match='scene: expected semantic, instances and detections, got'):
        colorize_panoptic(dataclasses.replace(panoptic_scene(), **{missing: None}), LABELS)


def test_overlay_outlines_and_numbers_instances_instead_of_boxes() -> None:
    scene = panoptic_scene()
    image = grey()
    picture = draw_overlay(image, scene, LABELS, alpha=0.5)
    assert (image == 100).all()
    tones = instance_colors(scene.detections, LABELS)
    assert np.abs(picture[75, 35] - (0.5 * 100 + 0.5 * np.array(tones[0]))).max() <= 1
    assert (picture[65:90, 49] == 255).all()
    assert ((picture[40:60] == tones[0]).all(axis=2)).sum() > 50  # the patch of its label
    assert not np.array_equal(picture, draw_overlay(image, panoptic_scene(ids=[1, 3]), LABELS, alpha=0.5))
    # Without an image of classes, instances are drawn alone.
    alone = draw_overlay(image, dataclasses.replace(scene, semantic=None), LABELS, alpha=0.5)
    assert (alone[100:] == 100).all()
    assert (alone[75, 35] == picture[75, 35]).all()


def test_overlay_draws_the_boxes_that_got_no_pixels() -> None:
    scene = panoptic_scene()
    assert scene.instances is not None
    scene.instances[scene.instances == 2] = 0
    picture = draw_overlay(grey(), scene, LABELS, alpha=0.0)
    assert np.abs(picture[80, 80] - np.array(COCO_90.palette[2])).max() < 40
    assert (picture[65:89, 55:75] == 100).all()


def test_instances_without_a_detection_are_passed_over_and_more_than_255_do_not_fail() -> None:
    scene = panoptic_scene()
    assert scene.detections is not None
    left = dataclasses.replace(scene, detections=scene.detections.only(np.array([True, False])))
    assert (colorize_panoptic(left, LABELS)[62:88, 53:77] == 0).all()
    count = 300
    found = Detections(
        np.tile(np.array([[0, 0, 9, 9]], np.float32), (count, 1)), np.full(count, 2), np.full(count, 0.5, np.float32)
    )
    instances = np.arange(count, dtype=np.uint16).reshape(15, 20) + np.uint16(1)
    crowd = Scene((15, 20), semantic=np.full((15, 20), CAR, np.uint8), instances=instances, detections=found)
    assert colorize_panoptic(crowd, LABELS).shape == (15, 20, 3)
    assert draw_overlay(grey(15, 20), crowd, LABELS, alpha=0.5).shape == (15, 20, 3)


def test_depth_is_warm_when_near_cold_when_far_and_black_when_unknown() -> None:
    metres = np.array([[3.0, 14.0, 90.0], [0.0, np.nan, -1.0]], np.float32)
    colors = colorize_depth(metres)
    assert colors.shape == (2, 3, 3)
    assert colors.dtype == np.uint8
    (near, middle, far), unknown = colors.astype(int)
    assert near[0] > near[2] + 50
    assert middle[1] > max(middle[0], middle[2])
    assert far[0] < 80
    assert not unknown.any()
    # Colours do not depend on the rest of the picture, and stay what they are beyond the range that is told apart.
    beyond, ends = (colorize_depth(np.array([row], np.float32)) for row in ([0.1, 500.0], [2.0, 100.0]))
    assert np.array_equal(beyond, ends)


def test_what_moves_is_outlined() -> None:
    motion = np.zeros((40, 60), np.bool_)
    motion[10:30, 20:50] = True
    image = np.full((40, 60, 3), 90, np.uint8)
    semantic = np.zeros((40, 60), np.uint8)
    for options in ({}, {'semantic': semantic}):
        still = draw_overlay(image, Scene((40, 60), **options), LABELS, alpha=0.5)
        picture = draw_overlay(image, Scene((40, 60), motion=motion, **options), LABELS, alpha=0.5)
        changed = (picture != still).any(axis=2)
        assert changed[10, 20:50].all()
        assert changed[10:30, 49].all()
        assert not changed[15:25, 25:45].any()
        assert not changed[:7].any()
        assert np.abs(picture[10, 35].astype(int) - MOTION).max() < 40  # lines are smooth
    assert (image == 90).all()
