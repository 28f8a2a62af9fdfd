from __future__ import annotations

import math

import pytest
import torch

from sembox_ros.ops.anchors import ANCHORS_PER_CELL, create_anchors

CUBE_ROOT = 2 ** (1 / 3)


def box(center_x: float, center_y: float, width: float, height: float) -> list[float]:
    return [center_x - width / 2, center_y - height / 2, center_x + width / 2, center_y + height / 2]


@pytest.mark.parametrize('size_hw', [(128, 128), (128, 384), (256, 128)])
def test_count_is_nine_per_cell_of_every_level(size_hw: tuple[int, int]) -> None:
    cells = sum((size_hw[0] // s) * (size_hw[1] // s) for s in (8, 16, 32, 64, 128))
    anchors = create_anchors(size_hw)
    assert anchors.shape == (9 * cells, 4)
    assert anchors.dtype == torch.float32
    assert ANCHORS_PER_CELL == 9


def test_first_cell_by_hand_scales_outer_ratios_inner() -> None:
    # Stride 8: centre (4, 4), side 32 at scale 1; wide is 1.4 x 0.7, tall is 0.7 x 1.4.
    expected = [
        box(4, 4, 32 * scale * w, 32 * scale * h)
        for scale in (1, CUBE_ROOT, CUBE_ROOT**2)
        for w, h in ((1, 1), (1.4, 0.7), (0.7, 1.4))
    ]
    assert expected[0] == [-12, -12, 20, 20]
    torch.testing.assert_close(create_anchors((256, 384))[:9], torch.tensor(expected))


def test_second_cell_is_to_the_right_and_the_next_row_follows_the_first() -> None:
    anchors = create_anchors((256, 384))
    assert anchors[9].tolist() == [-4, -12, 28, 20]
    columns = 384 // 8
    assert anchors[9 * columns].tolist() == [-12, -4, 20, 28]


def test_levels_go_from_fine_to_coarse() -> None:
    anchors = create_anchors((256, 384))
    start = 9 * (256 // 8) * (384 // 8)
    assert anchors[start].tolist() == box(8, 8, 64, 64)  # stride 16


def test_last_anchor_by_hand() -> None:
    # Stride 128, bottom right cell of 2 x 3, largest scale, tall.
    side = 512 * CUBE_ROOT**2
    expected = torch.tensor(box(320, 192, side * 0.7, side * 1.4))
    torch.testing.assert_close(create_anchors((256, 384))[-1], expected)


def test_all_levels_have_the_same_boxes_apart_from_scale() -> None:
    anchors = create_anchors((128, 128))
    fine, coarse = anchors[:9], anchors[-9:]
    torch.testing.assert_close((coarse - 64) / 16, fine - 4)
    widths = fine[:, 2] - fine[:, 0]
    assert math.isclose(float(widths[3] / widths[0]), CUBE_ROOT, rel_tol=1e-5)


def test_other_strides() -> None:
    assert create_anchors((64, 64), strides=(32,)).shape == (36, 4)
