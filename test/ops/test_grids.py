from __future__ import annotations

import pytest
import torch

from sembox_ros.ops.grids import POSITION_WEIGHTS, create_grids, evaluate_kernels, grid_shapes

SHAPES = ((4, 8), (3, 6), (2, 4), (2, 4), (1, 2))


def test_columns_follow_the_aspect() -> None:
    assert grid_shapes((40, 12), 1.0) == ((40, 40), (12, 12))
    assert grid_shapes((16, 1), 2.0) == ((16, 32), (1, 2))
    assert grid_shapes((2,), 0.25) == ((2, 1),)  # never without columns


def test_cells_run_row_by_row_and_level_by_level() -> None:
    grids = create_grids(SHAPES, (128, 256))
    assert grids.centers_xy.shape == (32 + 18 + 8 + 8 + 2, 2)
    assert grids.centers_xy[0].tolist() == [16, 16]
    assert grids.centers_xy[7].tolist() == [240, 16]  # the last column of the first row
    assert grids.centers_xy[8].tolist() == [16, 48]
    assert grids.centers_xy[-2:].tolist() == [[64, 64], [192, 64]]
    # In units of the canvas: 96 of 1333 x 800 pixels for the finest level, twice as much for each further one.
    assert grids.reach[0].item() == pytest.approx(0.093 * (128 * 256) ** 0.5)
    assert (grids.reach[-1] / grids.reach[0]).item() == pytest.approx(16)


def test_a_kernel_is_a_1x1_convolution() -> None:
    grids = create_grids(SHAPES, (128, 256))
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 32, 64, generator=generator)
    kernels = torch.randn(3, 6 + POSITION_WEIGHTS, generator=generator)
    kernels[:, 6:] = 0
    logits = evaluate_kernels(kernels, torch.tensor([0, 9, 40]), features, grids)
    torch.testing.assert_close(logits, torch.nn.functional.conv2d(features[None], kernels[:, :6, None, None])[0])


def test_position_counts_from_the_cell_in_units_of_its_level() -> None:
    grids = create_grids(SHAPES, (128, 256))
    cell, reach = 9, grids.reach[9].item()
    x0, y0 = grids.centers_xy[cell].tolist()
    position = torch.tensor([[0.5, -1.0, -2.0, -3.0, 0.25]])
    logits = evaluate_kernels(position, torch.tensor([cell]), torch.zeros(0, 32, 64), grids)
    for row, column in ((0, 0), (12, 3), (31, 63)):
        dx, dy = (column * 4 + 2 - x0) / reach, (row * 4 + 2 - y0) / reach
        wanted = 0.5 * dx - dy - 2 * dx**2 - 3 * dy**2 + 0.25
        assert logits[0, row, column].item() == pytest.approx(wanted, rel=1e-5)


def test_half_precision_is_evaluated_in_full() -> None:
    grids = create_grids(SHAPES, (128, 256))
    kernels, features = torch.ones(1, 2 + POSITION_WEIGHTS).bfloat16(), torch.ones(2, 32, 64).bfloat16()
    assert evaluate_kernels(kernels, torch.tensor([3]), features, grids).dtype == torch.float32


def test_no_cells_give_no_masks() -> None:
    grids = create_grids(SHAPES, (128, 256))
    empty = evaluate_kernels(torch.zeros(0, 7), torch.zeros(0, dtype=torch.int64), torch.zeros(2, 32, 64), grids)
    assert empty.shape == (0, 32, 64)
