from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sembox_ros.models.box_head import BoxHead, LevelSharedHead
from sembox_ros.ops.anchors import create_anchors

STRIDES = (8, 16, 32, 64, 128)
SIZE_HW = (128, 256)


def pyramid(channels: int, batch: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, channels, SIZE_HW[0] // s, SIZE_HW[1] // s, generator=generator) for s in STRIDES]


def head(depth: int = 2, outputs: int = 3) -> LevelSharedHead:
    torch.manual_seed(0)
    return LevelSharedHead(channels=6, outputs=outputs, depth=depth, levels=5).eval()


@pytest.mark.parametrize(('level', 'row', 'column'), [(0, 5, 20), (1, 7, 0), (2, 0, 5), (3, 1, 3), (4, 0, 1)])
@torch.no_grad()
def test_outputs_stand_in_the_order_of_the_anchors(level: int, row: int, column: int) -> None:
    """A change in one cell shows at the anchors around that cell: two 3x3 layers and a last one see 3 cells far."""
    module, maps, stride = head(), pyramid(6), STRIDES[level]
    before = module(maps)
    maps[level][0, :, row, column] += 1.0
    changed = (module(maps) != before).any(dim=2)[0]
    anchors = create_anchors(SIZE_HW)
    side = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1).sqrt()
    center = (anchors[:, 2:] + anchors[:, :2]) / 2
    here = torch.tensor([(column + 0.5) * stride, (row + 0.5) * stride])
    octave = 4 * stride * 0.95  # scales 1 to 2^(2/3) of 4 strides, ratios keep the area within 2 percent
    near = ((center - here).abs() <= 3 * stride + 0.1).all(dim=1) & (side > octave) & (side < 2 * octave)
    assert torch.equal(changed, near)


@torch.no_grad()
def test_anchors_of_a_cell_are_outer_and_values_inner_in_the_last_channels() -> None:
    module = head(outputs=3)
    nn.init.zeros_(module.last[1].weight)
    module.last[1].bias.copy_(torch.arange(27.0))
    out = module(pyramid(6))
    assert torch.equal(out.reshape(-1, 9, 3)[123], torch.arange(27.0).reshape(9, 3))


@torch.no_grad()
def test_levels_share_convolutions_but_not_norms() -> None:
    module = head(depth=1)
    same = torch.randn(1, 6, 4, 4)
    by_level = module([same] * 5).reshape(5, -1, 3)
    assert torch.equal(by_level[0], by_level[4])
    module.norms[3][0].running_mean += 1.0
    by_level = module([same] * 5).reshape(5, -1, 3)
    assert [torch.equal(by_level[0], by_level[i]) for i in range(5)] == [True, True, True, False, True]
    names = {name for name, _ in module.named_parameters() if not name.startswith('norms')}
    assert names == {'convs.0.0.weight', 'convs.0.1.weight', 'convs.0.1.bias', 'last.0.weight', 'last.1.weight',
                     'last.1.bias'}  # fmt: skip


@torch.no_grad()
def test_tower_by_hand() -> None:
    module = head(depth=2)
    x = pyramid(6)[0]
    for norms, conv in zip(module.norms[0], module.convs, strict=True):
        y = norms(conv[1](conv[0](x)))
        x = y * torch.sigmoid(y)
    x = module.last[1](module.last[0](x))  # (1, 27, h, w)
    cells = x.shape[2] * x.shape[3]
    expected = x[0].reshape(9, 3, cells).permute(2, 0, 1).reshape(-1, 3)
    torch.testing.assert_close(module(pyramid(6))[0, : 9 * cells], expected)


@torch.no_grad()
def test_fresh_head_gives_the_prior_probability() -> None:
    torch.manual_seed(0)
    module = BoxHead(channels=6, classes=4, depth=2, levels=5).eval()
    class_logits, box_regression = module([torch.zeros_like(p) for p in pyramid(6)])
    assert class_logits.shape == (1, len(create_anchors(SIZE_HW)), 4)
    assert box_regression.shape == (1, len(create_anchors(SIZE_HW)), 4)
    for conv in module.classify.convs:
        conv[1].bias.zero_()
    class_logits, _ = module([torch.zeros_like(p) for p in pyramid(6)])
    torch.testing.assert_close(class_logits.sigmoid(), torch.full_like(class_logits, 0.01))
