from __future__ import annotations

import numpy as np
import pytest
import torch
from made_instances import CANVAS_HW, rectangle
from torch import Tensor

from sembox_ros.labels import load_scene_labels
from sembox_ros.ops.placement import Placement
from sembox_ros.postprocess.fusion import FUSIONS, fuse_efficientps, fuse_heuristic
from sembox_ros.postprocess.instances import Instances
from sembox_ros.types import Detections

LABELS = load_scene_labels('cityscapes_19+coco_90')
assert LABELS.semantic is not None
ROAD, SKY, CAR, PERSON = (LABELS.semantic.names.index(name) for name in ('road', 'sky', 'car', 'person'))
BOX_CAR, BOX_PERSON, BOX_CHAIR = (LABELS.detection.names.index(name) for name in ('car', 'person', 'chair'))
WHOLE = Placement(CANVAS_HW, CANVAS_HW, CANVAS_HW)
SIZES = ((64, 128), (128, 256))
Box = tuple[float, float, float, float]


def instances(*rows: tuple[Box, int, float], masks: list[Tensor] | None = None) -> Instances:
    """Rectangular masks (box, class, score), best first."""
    logits = [rectangle(*box) for box, *_ in rows] if masks is None else masks
    detections = Detections(
        np.array([box for box, *_ in rows], np.float32).reshape(-1, 4),
        np.array([class_id for _, class_id, _ in rows], np.int64),
        np.array([score for *_, score in rows], np.float32),
    )
    return Instances(torch.stack(logits) if logits else torch.zeros(0, 32, 64), detections)


def semantics(*rectangles: tuple[Box, int], strength: float = 6.0) -> Tensor:
    """(19, 32, 64) logits: road, and a class inside each box."""
    logits = torch.full((19, 32, 64), -strength)
    logits[ROAD] = strength
    for (x0, y0, x1, y1), class_id in rectangles:
        place = (slice(int(y0 // 4), int(y1 // 4)), slice(int(x0 // 4), int(x1 // 4)))
        logits[:, place[0], place[1]] = -strength
        logits[class_id, place[0], place[1]] = strength
    return logits


def fuse(name: str, found: Instances, semantic: Tensor, placement: Placement = WHOLE, **options: float) -> np.ndarray:
    return FUSIONS[name](found, semantic, placement, LABELS, sizes_hw=SIZES, **options)


def box_of(image: np.ndarray, number: int) -> list[int]:
    y, x = (image == number).nonzero()
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]


BOTH = pytest.mark.parametrize('name', ['efficientps', 'heuristic'])
LEFT, RIGHT = (20.0, 20.0, 100.0, 80.0), (140.0, 40.0, 220.0, 100.0)


@BOTH
def test_apart_instances_get_their_masks_under_their_numbers(name: str) -> None:
    found = instances((LEFT, BOX_CAR, 0.9), (RIGHT, BOX_PERSON, 0.8))
    fused = fuse(name, found, semantics((LEFT, CAR), (RIGHT, PERSON)))
    assert fused.dtype == np.uint16
    assert fused.shape == CANVAS_HW
    assert set(np.unique(fused)) == {0, 1, 2}
    np.testing.assert_allclose(box_of(fused, 1), LEFT, atol=2)
    np.testing.assert_allclose(box_of(fused, 2), RIGHT, atol=2)


@BOTH
def test_image_of_another_size_than_the_canvas(name: str) -> None:
    placement = Placement((60, 200), scaled_hw=(30, 100), canvas_hw=CANVAS_HW)
    box = (20.0, 8.0, 60.0, 24.0)  # on the canvas; in pixels of the image twice that
    found = instances((box, BOX_CAR, 0.9))
    doubled = found.detections.boxes_xyxy * 2
    found = Instances(found.mask_logits, Detections(doubled, found.detections.class_ids, found.detections.scores))
    fused = fuse(name, found, semantics((box, CAR)), placement)
    assert fused.shape == (60, 200)
    np.testing.assert_allclose(box_of(fused, 1), doubled[0], atol=4)


@BOTH
@pytest.mark.parametrize(
    'row', [(LEFT, BOX_CAR, 0.4), (LEFT, BOX_CHAIR, 0.9)], ids=['not sure enough', 'of a class the mask does not know']
)
def test_who_takes_no_part(name: str, row: tuple[Box, int, float]) -> None:
    assert not fuse(name, instances(row), semantics((LEFT, CAR)), min_score=0.5).any()
    assert not fuse(name, instances(), semantics()).any()


@BOTH
def test_what_lies_in_a_better_one_gets_nothing(name: str) -> None:
    inner = (30.0, 30.0, 90.0, 70.0)
    found = instances((LEFT, BOX_CAR, 0.9), (inner, BOX_CAR, 0.8))
    semantic = semantics((LEFT, CAR))
    assert set(np.unique(fuse(name, found, semantic))) == {0, 1}
    assert 2 in np.unique(fuse(name, instances((inner, BOX_CAR, 0.9), (LEFT, BOX_CAR, 0.8)), semantic))


def test_heuristic_gives_overlaps_to_the_better_score() -> None:
    other = (70.0, 20.0, 150.0, 80.0)
    for first, second in ((LEFT, other), (other, LEFT)):
        fused = fuse('heuristic', instances((first, BOX_CAR, 0.9), (second, BOX_CAR, 0.8)), semantics())
        np.testing.assert_allclose(box_of(fused, 1), first, atol=2)
        assert (fused[22:78, 72:98] == 1).all()


def test_heuristic_does_not_ask_the_semantic_head() -> None:
    found = instances((LEFT, BOX_CAR, 0.9))
    np.testing.assert_array_equal(
        fuse_heuristic(found, semantics(), WHOLE, LABELS, sizes_hw=SIZES),
        fuse_heuristic(found, semantics((LEFT, PERSON)), WHOLE, LABELS, sizes_hw=SIZES),
    )


def test_efficientps_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = [torch.randn(32, 64, generator=generator) * 4 for _ in range(2)]
    box = (0.0, 0.0, 64.0, 32.0)
    found = instances((box, BOX_CAR, 0.9), (box, BOX_PERSON, 0.8), masks=masks)
    semantic = torch.randn(19, 32, 64, generator=generator) * 4
    same = Placement((32, 64), (32, 64), (32, 64))  # at the size of the logits nothing is resized
    fused = fuse_efficientps(found, semantic, same, LABELS, sizes_hw=(), max_overlap=1.0)
    a, b = torch.stack(masks), semantic[[CAR, PERSON]]
    others = [i for i in range(19) if i not in LABELS.thing_links.values()]
    logits = torch.cat(((a.sigmoid() + b.sigmoid()) * (a + b), semantic[others]))
    winner = logits.argmax(dim=0)
    np.testing.assert_array_equal(fused, torch.where(winner < 2, winner + 1, 0).numpy())


def test_efficientps_adds_what_the_semantic_head_sees_inside_the_box() -> None:
    # The mask ends at x = 80, the box and the car of the mask go on to 100.
    mask = torch.minimum(rectangle(20, 20, 80, 80), torch.tensor(3.0))
    found = instances((LEFT, BOX_CAR, 0.9), masks=[mask.clamp(min=-3.0)])
    fused = fuse('efficientps', found, semantics((LEFT, CAR), (RIGHT, CAR)))
    np.testing.assert_allclose(box_of(fused, 1), LEFT, atol=2)
    assert (fused[24:76, 24:96] == 1).all()
    assert not fused[:, 110:].any()  # a car that nobody has stays nobody's, though all of stuff is below zero there


def test_efficientps_lets_stuff_win_where_both_doubt() -> None:
    mask = torch.minimum(rectangle(*LEFT), torch.tensor(1.0))
    found = instances((LEFT, BOX_CAR, 0.9), masks=[mask])
    assert not fuse('efficientps', found, semantics()).any()
    assert (fuse('heuristic', found, semantics()) == 1).any()


def test_semantic_logits_of_another_size_are_resized() -> None:
    found = instances((LEFT, BOX_CAR, 0.9))
    coarse = semantics((LEFT, CAR))[:, ::2, ::2]
    fused = fuse('efficientps', found, coarse)
    np.testing.assert_allclose(box_of(fused, 1), LEFT, atol=6)


@BOTH
def test_more_instances_than_fit_into_eight_bits(name: str) -> None:
    boxes: list[Box] = [(4.0 * x, 4.0 * y, 4.0 * x + 4, 4.0 * y + 4) for y in range(0, 30, 2) for x in range(0, 60, 3)]
    found = instances(*((box, BOX_CAR, 0.9) for box in boxes[:300]))
    assert len(found.detections) == 300
    fused = fuse(name, found, semantics(*((box, CAR) for box in boxes[:300])))
    numbers = np.unique(fused)
    assert 200 < len(numbers) - 1 <= 255
    assert numbers.max() <= 255  # the best ones
