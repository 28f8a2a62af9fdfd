from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.errors import InputError
from sembox_ros.labels import load_scene_labels
from sembox_ros.postprocess.claims import claim_pixels
from sembox_ros.types import Detections

LABELS = load_scene_labels('cityscapes_19+coco_90')
assert LABELS.semantic is not None
ROAD, CAR, PERSON = (LABELS.semantic.names.index(name) for name in ('road', 'car', 'person'))
BOX_CAR, BOX_PERSON, BOX_CHAIR = (LABELS.detection.names.index(name) for name in ('car', 'person', 'chair'))


def found(*rows: tuple[float, float, float, float, int, float], ids: list[int] | None = None) -> Detections:
    """Detections of (x0, y0, x1, y1, class, score)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    numbers = np.arange(1, len(rows) + 1) if ids is None else np.array(ids, np.int64)
    return Detections(table[:, :4].copy(), table[:, 4].astype(np.int64), table[:, 5].copy(), numbers)


def street(*spans: tuple[int, int, int, int, int], size_hw: tuple[int, int] = (40, 60)) -> np.ndarray:
    """A mask of road with rectangles (x0, y0, x1, y1, class)."""
    mask = np.full(size_hw, ROAD, np.uint8)
    for x0, y0, x1, y1, class_id in spans:
        mask[y0:y1, x0:x1] = class_id
    return mask


def test_a_box_takes_the_pixels_of_its_class_inside_it() -> None:
    mask = street((10, 10, 30, 20, CAR), (12, 12, 14, 18, PERSON), (50, 30, 55, 38, CAR))
    instances = claim_pixels(mask, found((10, 10, 30, 20, BOX_CAR, 0.9)), LABELS)
    assert instances.dtype == np.uint16
    wanted = np.zeros(mask.shape, np.uint16)
    wanted[10:20, 10:30] = 1
    wanted[12:18, 12:14] = 0  # the person in front
    np.testing.assert_array_equal(instances, wanted)  # and not the other car, far from any box


def test_numbers_are_the_ids_of_the_detections() -> None:
    mask = street((0, 0, 20, 20, CAR), (30, 0, 50, 20, PERSON))
    boxes = found((0, 0, 20, 20, BOX_CAR, 0.9), (30, 0, 50, 20, BOX_PERSON, 0.8), ids=[65535, 7])
    instances = claim_pixels(mask, boxes, LABELS)
    assert instances[5, 5] == 65535
    assert instances[5, 35] == 7


def test_neighbours_of_a_class_part_in_the_middle_and_a_surer_one_gets_more() -> None:
    mask = street((0, 10, 60, 30, CAR))
    alike = claim_pixels(mask, found((0, 10, 40, 30, BOX_CAR, 0.8), (20, 10, 60, 30, BOX_CAR, 0.8)), LABELS)
    assert (alike[10:30, :30] == 1).all()
    assert (alike[10:30, 31:] == 2).all()
    unlike = claim_pixels(mask, found((0, 10, 40, 30, BOX_CAR, 0.9), (20, 10, 60, 30, BOX_CAR, 0.6)), LABELS)
    assert (unlike[20] == 1).sum() > (alike[20] == 1).sum()
    assert (unlike[20, 40:] == 2).all()  # beyond the first box its score does not count


def test_a_small_box_in_front_of_a_large_one_keeps_its_middle() -> None:
    mask = street((0, 0, 60, 40, CAR))
    boxes = found((0, 0, 60, 40, BOX_CAR, 0.9), (34, 22, 50, 38, BOX_CAR, 0.9))
    instances = claim_pixels(mask, boxes, LABELS, min_share=0.3)
    assert (instances[27:35, 39:46] == 2).all()
    assert (instances[:20] == 1).all()
    assert (instances > 0).all()


def test_classes_do_not_compete() -> None:
    mask = street((0, 0, 30, 40, CAR), (30, 0, 60, 40, PERSON))
    instances = claim_pixels(mask, found((0, 0, 60, 40, BOX_CAR, 0.9), (0, 0, 60, 40, BOX_PERSON, 0.5)), LABELS)
    assert (instances[:, :30] == 1).all()
    assert (instances[:, 30:] == 2).all()


def test_a_tight_box_grows_into_what_is_nobodys_but_not_into_a_neighbour() -> None:
    mask = street((0, 10, 60, 30, CAR))
    boxes = found((0, 10, 20, 30, BOX_CAR, 0.9), (24, 10, 44, 30, BOX_CAR, 0.6))
    grown = claim_pixels(mask, boxes, LABELS, margin=0.3)[20]  # by 3 pixels
    assert (grown[:22] == 1).all()  # nearer to the surer one
    assert (grown[24:47] == 2).all()
    assert (grown[47:] == 0).all()
    tight = claim_pixels(mask, boxes, LABELS, margin=0.0)[20]
    assert tight.tolist() == [1] * 20 + [0] * 4 + [2] * 20 + [0] * 16
    touching = found((0, 10, 20, 30, BOX_CAR, 0.99), (20, 10, 40, 30, BOX_CAR, 0.41))
    assert claim_pixels(mask, touching, LABELS, margin=0.3)[20, :40].tolist() == [1] * 20 + [2] * 20


def test_a_second_box_of_an_object_gets_nothing() -> None:
    mask = street((10, 10, 50, 30, CAR))
    boxes = found((10, 10, 50, 30, BOX_CAR, 0.9), (12, 10, 50, 34, BOX_CAR, 0.5))
    assert set(np.unique(claim_pixels(mask, boxes, LABELS))) == {0, 1}
    assert set(np.unique(claim_pixels(mask, boxes, LABELS, min_share=0.0, score_power=0.0))) == {0, 1, 2}


@pytest.mark.parametrize(
    ('span', 'row'),
    [
        ((10, 10, 30, 30, CAR), (10, 10, 30, 30, BOX_CAR, 0.39)),  # not sure enough
        ((10, 10, 13, 14, CAR), (10, 10, 13, 14, BOX_CAR, 0.9)),  # too few pixels
        ((10, 10, 20, 12, CAR), (10, 0, 20, 30, BOX_CAR, 0.9)),  # nearly nothing of its box
        ((10, 10, 30, 30, CAR), (10, 10, 30, 30, BOX_PERSON, 0.9)),  # the mask says otherwise
        ((10, 10, 30, 30, CAR), (10, 10, 30, 30, BOX_CHAIR, 0.9)),  # the mask does not know the class
        ((10, 10, 30, 30, CAR), (30, 30, 30, 30, BOX_CAR, 0.9)),  # no area
    ],
    ids=['score', 'area', 'fill', 'class', 'unlinked', 'empty'],
)
def test_who_gets_nothing(span: tuple[int, ...], row: tuple[float, ...]) -> None:
    assert not claim_pixels(street(span), found(row), LABELS, min_score=0.4).any()  # type: ignore[arg-type]


def test_what_others_leave_must_be_enough_too() -> None:
    mask = street((0, 0, 60, 40, CAR))
    boxes = found((20, 10, 30, 20, BOX_CAR, 0.9), (19, 9, 31, 21, BOX_CAR, 0.9))
    few = claim_pixels(mask, boxes, LABELS, min_share=0.0, min_fill=0.0, min_area=100)
    assert set(np.unique(few)) <= {0, 1, 2}
    assert all(np.count_nonzero(few == number) in (0, *range(100, 200)) for number in (1, 2))


def test_wrong_mask_is_refused() -> None:
    with pytest.raises(InputError, match=r'semantic: expected dtype uint8, got int64'):
        claim_pixels(np.zeros((4, 4), np.int64), Detections.empty(), LABELS)


COORDINATE = st.floats(0, 70, width=32)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 99), margin=st.sampled_from([0.0, 0.1, 0.5]))
def test_every_pixel_goes_where_the_rule_says(data: st.DataObject, seed: int, margin: float) -> None:
    """Beside a slow loop over all boxes for all pixels, with nothing given up."""
    mask = np.random.default_rng(seed).choice(np.array([ROAD, CAR, PERSON], np.uint8), (30, 50))
    rows = []
    for _ in range(data.draw(st.integers(0, 6))):
        x, y = (sorted(data.draw(st.tuples(COORDINATE, COORDINATE))) for _ in range(2))
        class_id = data.draw(st.sampled_from([BOX_CAR, BOX_PERSON, BOX_CHAIR]))
        rows.append((x[0], y[0], x[1], y[1], class_id, data.draw(st.floats(0.5, 1, width=32))))
    boxes = found(*rows)
    instances = claim_pixels(
        mask, boxes, LABELS, margin=margin, min_share=0.0, min_fill=0.0, min_area=0, score_power=2.0
    )
    x, y = np.meshgrid(np.arange(50) + 0.5, np.arange(30) + 0.5)
    candidates = {}
    for number, (x0, y0, x1, y1, class_id, score) in enumerate(rows, start=1):
        u = np.abs(x - (x0 + x1) / 2) / max((x1 - x0) / 2, 1e-6)
        v = np.abs(y - (y0 + y1) / 2) / max((y1 - y0) / 2, 1e-6)
        far = np.maximum(u, v)
        ours = (mask == LABELS.thing_links.get(class_id, -1)) & (far <= 1 + margin)
        key = np.hypot(u, v) / score**2 + 1e6 * (far > 1)
        candidates[number] = np.where(ours, key, np.inf)
    keys = np.stack([np.full(mask.shape, 1e30), *candidates.values()])
    wanted = keys.argmin(axis=0)
    clear = np.sort(keys, axis=0)[: 2 if len(keys) > 1 else 1]
    sure = np.ones(mask.shape, bool) if len(clear) < 2 else clear[1] - clear[0] > 1e-3
    # At an edge, rounding may decide whether a pixel's middle is inside.
    for x0, y0, x1, y1, *_ in rows:
        for low, high, place in ((x0, x1, x), (y0, y1, y)):
            half, center = (high - low) / 2, (high + low) / 2
            for edge in (half, half * (1 + margin)):
                sure &= np.abs(np.abs(place - center) - edge) > 1e-3
    np.testing.assert_array_equal(instances[sure], wanted[sure])
