from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sembox_ros.errors import InputError
from sembox_ros.ops.grids import SCALE_RANGES, create_grids
from sembox_ros.targets.anchors import IGNORED, NEGATIVE
from sembox_ros.targets.grids import GridTargets, assign_cells

CANVAS = (128, 256)
SHAPES = ((8, 16), (6, 12), (4, 8), (2, 4), (1, 2))
GRIDS = create_grids(SHAPES, CANVAS)
STARTS = (0, 128, 200, 232, 240)


def scene(*boxes: tuple[int, int, int, int], crowd: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """Filled rectangles, later ones on top; class k + 10 for row k."""
    instances = torch.zeros(CANVAS, dtype=torch.int32)
    for row, (x0, y0, x1, y1) in enumerate(boxes):
        instances[y0:y1, x0:x1] = row + 1
    return {
        'instances': instances,
        'boxes_xyxy': torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        'class_ids': torch.arange(len(boxes)) + 10,
        'is_crowd': torch.tensor([row in crowd for row in range(len(boxes))], dtype=torch.bool),
    }


def level(targets: GridTargets, index: int) -> Tensor:
    rows, columns = SHAPES[index]
    return targets.class_ids[STARTS[index] : STARTS[index] + rows * columns].view(rows, columns)


def test_an_object_belongs_to_the_cell_under_its_centre_on_the_levels_of_its_size() -> None:
    # 24 x 24 of a canvas of 181 x 181: 0.13, which is in the ranges of the second and the third level.
    targets = assign_cells(GRIDS, **scene((100, 40, 124, 64)))
    wanted = {1: (2, 5), 2: (1, 3)}  # centre (112, 52); cells of 21.3 x 21.3 and of 32 x 32 pixels
    for index in range(5):
        cells = (level(targets, index) == 10).nonzero().tolist()
        assert cells == ([list(wanted[index])] if index in wanted else [])
    assert (targets.rows >= 0).equal(targets.class_ids >= 0)
    assert targets.rows.max() == 0


def test_the_middle_of_a_large_object_gives_up_to_nine_cells() -> None:
    # 0.2 x 96 = 19.2 pixels around the centre (128, 64), where four cells of 21.3 meet, on the third level of 32.
    targets = assign_cells(GRIDS, **scene((80, 16, 176, 112)))
    assert (level(targets, 2) >= 0).nonzero().tolist() == []  # 96 of 181 is 0.53: too large for this level
    assert (level(targets, 3) >= 0).nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]


def test_the_smaller_of_two_objects_gets_a_cell() -> None:
    both = scene((96, 40, 128, 64), (108, 48, 122, 60))
    targets = assign_cells(GRIDS, **both)
    assert level(targets, 1)[2, 5] == 11
    turned = scene((108, 48, 122, 60), (96, 40, 128, 64))
    turned['instances'] = torch.where(both['instances'] == 0, 0, 3 - both['instances'])
    assert level(assign_cells(GRIDS, **turned), 1)[2, 5] == 10


def test_the_centre_is_that_of_the_pixels_not_of_the_box() -> None:
    given_scene = scene((100, 40, 124, 64))
    given_scene['instances'][40:64, 100:122] = 0  # two columns remain, at the right edge
    assert (level(assign_cells(GRIDS, **given_scene), 1) == 10).nonzero().tolist() == [[2, 5]]
    given_scene['boxes_xyxy'][:, 2] += 20
    given_scene['instances'] = scene((136, 40, 144, 64))['instances']
    assert (level(assign_cells(GRIDS, **given_scene), 1) == 10).nonzero().tolist() == [[2, 6]]


def test_crowds_and_slivers_are_neither_object_nor_background() -> None:
    targets = assign_cells(GRIDS, **scene((0, 0, 128, 64), (200, 100, 203, 103), crowd=(0,)))
    finest = level(targets, 0)
    assert (finest[:4, :8] == IGNORED).all()  # cells whose centre lies in the crowd
    assert finest[6, 12] == IGNORED  # nine pixels are too few
    assert (finest == IGNORED).sum() == 33
    assert (targets.rows == -1).all()


def test_an_object_hidden_by_others_is_not_asked_for() -> None:
    targets = assign_cells(GRIDS, **scene((100, 40, 124, 64), (90, 30, 140, 80)))
    assert 10 not in targets.class_ids
    assert 11 in targets.class_ids


def test_nothing_to_see() -> None:
    targets = assign_cells(GRIDS, **scene())
    assert (targets.class_ids == NEGATIVE).all()
    assert (targets.class_ids.dtype, targets.rows.dtype) == (torch.int64, torch.int64)


def test_a_map_of_another_size_is_refused() -> None:
    given_scene = scene((100, 40, 124, 64))
    with pytest.raises(InputError, match=r'instances: expected the size \(128, 256\) of the canvas, got \(64, 256\)'):
        assign_cells(GRIDS, **{**given_scene, 'instances': given_scene['instances'][:64]})


@st.composite
def rectangles(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    found = []
    for _ in range(draw(st.integers(0, 6))):
        x0, y0 = draw(st.integers(0, 250)), draw(st.integers(0, 120))
        found.append((x0, y0, draw(st.integers(x0 + 1, 256)), draw(st.integers(y0 + 1, 128))))
    return found


@settings(max_examples=50, deadline=None)
@given(rectangles())
def test_every_cell_lies_near_the_object_that_it_learns(boxes: list[tuple[int, int, int, int]]) -> None:
    given_scene = scene(*boxes)
    targets = assign_cells(GRIDS, **given_scene)
    for cell in (targets.rows >= 0).nonzero()[:, 0].tolist():
        row = targets.rows[cell].item()
        assert targets.class_ids[cell] == row + 10
        index = sum(cell >= start for start in STARTS) - 1
        x0, y0, x1, y1 = boxes[row]
        size = ((x1 - x0) * (y1 - y0) / (CANVAS[0] * CANVAS[1])) ** 0.5
        assert SCALE_RANGES[index][0] <= size * 1.0001
        assert size < SCALE_RANGES[index][1] * 1.0001
        cell_hw = torch.tensor([CANVAS[1] / SHAPES[index][1], CANVAS[0] / SHAPES[index][0]])
        y, x = (given_scene['instances'] == row + 1).nonzero(as_tuple=True)
        center = torch.stack((x, y)).float().mean(dim=1) + 0.5
        assert ((GRIDS.centers_xy[cell] - center).abs() <= 1.5 * cell_hw + 1e-3).all()
