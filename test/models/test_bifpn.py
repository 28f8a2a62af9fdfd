from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sembox_ros.models.bifpn import BiFPN, BiFPNCell, Fusion
from sembox_ros.models.layers import pool_half, upsample_nearest

STRIDES = (8, 16, 32, 64, 128)


def pyramid(channels: int, size: int = 128, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, channels, size // s, 2 * size // s, generator=generator) for s in STRIDES]


def bare_fusion(weights: list[float]) -> Fusion:
    """A fusion whose convolution is gone, so that the weighted sum itself can be seen."""
    fusion = Fusion(len(weights), 3)
    fusion.conv = nn.Identity()
    fusion.weight.data = torch.tensor(weights)
    return fusion


def swish(x: float) -> float:
    return float(F.silu(torch.tensor(x)))


def test_fusion_by_hand() -> None:
    maps = [torch.full((1, 3, 2, 2), value) for value in (1.0, -2.0, 4.0)]
    fused = bare_fusion([1.0, 3.0, 0.5])(*maps)
    expected = swish((1.0 * 1 + 3.0 * -2 + 0.5 * 4) / (4.5 + 1e-4))
    torch.testing.assert_close(fused, torch.full((1, 3, 2, 2), expected))


def test_fusion_ignores_an_input_of_negative_weight() -> None:
    maps = [torch.full((1, 3, 2, 2), value) for value in (1.0, 1e6)]
    torch.testing.assert_close(bare_fusion([2.0, -1.0])(*maps), torch.full((1, 3, 2, 2), swish(2 / (2 + 1e-4))))


def test_fusion_of_only_negative_weights_is_zero_and_not_infinite() -> None:
    maps = [torch.ones(1, 3, 2, 2)] * 2
    assert not bare_fusion([-1.0, -1.0])(*maps).any()


def test_fresh_fusion_is_the_mean_before_the_convolution() -> None:
    fusion = Fusion(2, 3)
    fusion.conv = nn.Identity()
    a, b = torch.randn(2, 1, 3, 4, 4)
    torch.testing.assert_close(fusion(a, b), F.silu((a + b) / 2), atol=1e-3, rtol=1e-3)


def test_pool_half_pads_with_zeros_below_and_right() -> None:
    negative = torch.full((1, 1, 4, 4), -1.0)
    # The windows of the last row and column reach one step outside, where a zero beats -1.
    assert pool_half(negative)[0, 0].tolist() == [[-1.0, 0.0], [0.0, 0.0]]


def test_pool_half_by_hand() -> None:
    ramp = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert pool_half(ramp)[0, 0].tolist() == [[10.0, 11.0], [14.0, 15.0]]


def test_upsample_nearest_repeats() -> None:
    assert upsample_nearest(torch.tensor([[[[1.0, 2.0]]]]))[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


def test_cell_is_wired_as_in_the_paper() -> None:
    """Figure 2 of EfficientDet, written out level by level."""
    torch.manual_seed(0)
    cell = BiFPNCell(6).eval()
    for index, fusion in enumerate(m for m in cell.modules() if isinstance(m, Fusion)):
        fusion.weight.data = torch.linspace(0.2, 1.5, len(fusion.weight)).roll(index)
    p3, p4, p5, p6, p7 = pyramid(6)
    skips = [s + 1 for s in pyramid(6)]
    td3, td4, td5, td6 = cell.top_down
    bu4, bu5, bu6, bu7 = cell.bottom_up

    def up(x: Tensor) -> Tensor:
        return F.interpolate(x, size=(2 * x.shape[2], 2 * x.shape[3]), mode='nearest')

    t6 = td6(p6, up(p7))
    t5 = td5(p5, up(t6))
    t4 = td4(p4, up(t5))
    out3 = td3(p3, up(t4))
    out4 = bu4(skips[1], t4, pool_half(out3))
    out5 = bu5(skips[2], t5, pool_half(out4))
    out6 = bu6(skips[3], t6, pool_half(out5))
    out7 = bu7(skips[4], pool_half(out6))
    for got, expected in zip(cell([p3, p4, p5, p6, p7], skips), (out3, out4, out5, out6, out7), strict=True):
        torch.testing.assert_close(got, expected)


def test_only_the_first_cell_reads_p4_and_p5_through_projections_of_their_own() -> None:
    torch.manual_seed(0)
    neck = BiFPN((4, 5, 6), 8, 2).eval()
    calls: list[tuple[list[Tensor], list[Tensor]]] = []
    for cell in neck.cells:
        cell.register_forward_hook(lambda _m, inputs, _o: calls.append(inputs))
    c3, c4, c5 = (torch.randn(1, c, 128 // s, 128 // s) for c, s in ((4, 8), (5, 16), (6, 32)))
    outputs = neck((c3, c4, c5))
    assert [tuple(p.shape) for p in outputs] == [(1, 8, 128 // s, 128 // s) for s in STRIDES]
    (first, first_skips), (second, second_skips) = calls
    for level, (project, c) in enumerate(zip(neck.project, (c3, c4, c5), strict=True)):
        torch.testing.assert_close(first[level], project(c))
    for level, (project, c) in enumerate(zip(neck.project_skip, (c4, c5), strict=True), start=1):
        torch.testing.assert_close(first_skips[level], project(c))
        assert not torch.allclose(first_skips[level], first[level])
    torch.testing.assert_close(first[3], pool_half(neck.project_p6(c5)))
    torch.testing.assert_close(first[4], pool_half(first[3]))
    for level in (0, 3, 4):
        assert first_skips[level] is first[level]
    for level in range(5):
        assert second_skips[level] is second[level]


@pytest.mark.parametrize('cells', [1, 3])
def test_cells_are_stacked(cells: int) -> None:
    assert len(BiFPN((4, 5, 6), 8, cells).cells) == cells


@torch.no_grad()
def test_unweighted_fusion_is_the_plain_sum() -> None:
    fusion = Fusion(3, 8, weighted=False).eval()
    assert 'weight' not in fusion.state_dict()
    features = [torch.randn(1, 8, 4, 6) for _ in range(3)]
    torch.testing.assert_close(fusion(*features), fusion.conv(nn.functional.silu(sum(features))))
