from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sembox_ros.models.semantic_head import DensePredictionCell, SemanticHead

CLASSES = 5


def bilinear_twice(x: Tensor) -> Tensor:
    """Bilinear x2 with half-pixel centres by its weights: 3/4 of one neighbour and 1/4 of the other."""
    for axis in (2, 3):
        size = x.shape[axis]
        before = x.index_select(axis, torch.arange(size).sub(1).clamp(min=0))
        after = x.index_select(axis, torch.arange(size).add(1).clamp(max=size - 1))
        pair = torch.stack((0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after), dim=axis + 1)
        x = pair.flatten(axis, axis + 1)
    return x


@pytest.fixture(scope='module')
def head() -> SemanticHead:
    torch.manual_seed(0)
    head = SemanticHead(in_channels=(4, 6, 6, 6), channels=8, dpc_channels=7, classes=CLASSES)
    head.train()(features(batch=4))  # statistics other than 0 and 1
    nn.init.normal_(head.classify[0].bias)
    return head.double().eval()


def features(batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((4, 32, 64), (6, 16, 32), (6, 8, 16), (6, 4, 8))
    return [torch.randn(batch, *shape, generator=generator) for shape in shapes]


def doubles() -> list[Tensor]:
    return [f.double() for f in features()]


def test_bilinear_twice_is_torchs() -> None:
    x = torch.randn(1, 2, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(bilinear_twice(x), F.interpolate(x, scale_factor=2.0, mode='bilinear'))


@torch.no_grad()
def test_classifying_each_scale_equals_concatenation_and_one_classifier(head: SemanticHead) -> None:
    """The docstring's claim: EfficientPS's concat + 1x1 convolution is the same function."""
    scales: dict[int, Tensor] = {}
    hooks = [
        conv.register_forward_hook(lambda _m, inputs, _o, i=i: scales.__setitem__(i, inputs[0]))
        for i, conv in enumerate(head.classify)
    ]
    logits = head(doubles())
    for hook in hooks:
        hook.remove()
    assert [tuple(scales[i].shape[2:]) for i in range(4)] == [(32, 64), (16, 32), (8, 16), (4, 8)]
    at_stride_4 = []
    for index in range(4):
        x = scales[index]
        for _ in range(index):
            x = bilinear_twice(x)
        at_stride_4.append(x)
    weight = torch.cat([conv.weight for conv in head.classify], dim=1)  # (K, 4 x channels, 1, 1)
    expected = F.conv2d(torch.cat(at_stride_4, dim=1), weight, head.classify[0].bias)
    assert expected.std() > 0.01
    torch.testing.assert_close(logits, expected)


@torch.no_grad()
def test_scales_are_wired_as_in_efficientps(head: SemanticHead) -> None:
    c2, p3, p4, p5 = doubles()
    seen: list[Tensor] = []
    hooks = [conv.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0])) for conv in head.classify]
    head((c2, p3, p4, p5))
    for hook in hooks:
        hook.remove()
    x32 = head.context_32(p5)
    x16 = head.context_16(p4) + bilinear_twice(x32)
    x8 = head.fine_8(p3) + bilinear_twice(head.correct_16[1](head.correct_16[0](x16)))
    x4 = head.fine_4(c2) + bilinear_twice(head.correct_8[1](head.correct_8[0](x8)))
    for got, expected in zip(seen, (x32, x16, x8, x4), strict=True):
        torch.testing.assert_close(got, expected)


def test_output_is_at_stride_4(head: SemanticHead) -> None:
    assert head(doubles()).shape == (2, CLASSES, 32, 64)


@pytest.mark.parametrize(
    ('branch', 'dilation'),
    [('entry', (1, 6)), ('near', (1, 1)), ('wide', (6, 21)), ('far', (18, 15)), ('far_again', (6, 3))],
)
def test_dense_prediction_cell_looks_where_the_paper_says(branch: str, dilation: tuple[int, int]) -> None:
    """An impulse comes out at the nine taps of the dilated kernel and nowhere else, in a map of the same size."""
    depthwise = getattr(DensePredictionCell(1, 1, 1), branch)[0]
    nn.init.ones_(depthwise.weight)
    impulse = torch.zeros(1, 1, 45, 49)
    impulse[0, 0, 22, 24] = 1.0
    response = depthwise(impulse)
    assert response.shape == impulse.shape
    rows, columns = dilation
    expected = {(22 + i * rows, 24 + j * columns) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert {tuple(p) for p in response[0, 0].nonzero().tolist()} == expected


def test_dense_prediction_cell_first_branch_feeds_three_and_the_fourth_feeds_the_last() -> None:
    cell = DensePredictionCell(3, 4, 5).eval()
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    names = {child: name for name, child in cell.named_children()}

    def record(module: nn.Module, given: tuple[Tensor], result: Tensor) -> None:
        inputs[names[module]], outputs[names[module]] = given[0], result

    for child in names:
        child.register_forward_hook(record)
    x = torch.randn(1, 3, 8, 8)
    cell(x)
    assert inputs['entry'] is x
    for name in ('near', 'wide', 'far'):
        assert inputs[name] is outputs['entry']
    assert inputs['far_again'] is outputs['far']
    order = ('entry', 'near', 'wide', 'far', 'far_again')
    assert torch.equal(inputs['merge'], torch.cat([outputs[name] for name in order], dim=1))
