"""Convolution blocks shared by the pyramid and the heads, and the measuring of batch norms."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# EfficientDet's batch norm constants (TensorFlow's momentum 0.99 is torch's 0.01).
NORM_EPS = 1e-3
NORM_MOMENTUM = 0.01


def create_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with EfficientDet's constants."""
    return nn.BatchNorm2d(channels, eps=NORM_EPS, momentum=NORM_MOMENTUM)


class SeparableConv(nn.Sequential):
    """Depthwise 3x3 without bias, pointwise with bias; optionally batch norm and swish.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        dilation: rows, columns.
        padding: rows, columns on each side; None follows the dilation, which keeps the size.
        norm: append a batch norm.
        activation: append a swish (SiLU).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dilation: tuple[int, int] = (1, 1),
        padding: tuple[int, int] | None = None,
        norm: bool = True,
        activation: bool = False,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(
                in_channels,
                in_channels,
                3,
                padding=dilation if padding is None else padding,
                dilation=dilation,
                groups=in_channels,
                bias=False,
            ),
            nn.Conv2d(in_channels, out_channels, 1),
        ]
        if norm:
            layers.append(create_norm(out_channels))
        if activation:
            layers.append(nn.SiLU(inplace=True))
        super().__init__(*layers)


class ConvNorm(nn.Sequential):
    """Pointwise convolution with bias, then batch norm."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels, 1), create_norm(out_channels))


def pool_half(features: Tensor) -> Tensor:
    """3x3 max-pooling with stride 2, TensorFlow SAME on even sizes: one zero row and column below and right."""
    return F.max_pool2d(F.pad(features, (0, 1, 0, 1)), kernel_size=3, stride=2)


def upsample_nearest(features: Tensor) -> Tensor:
    """Twice the height and width, every value repeated."""
    return F.interpolate(features, scale_factor=2.0, mode='nearest')


def upsample_bilinear(features: Tensor) -> Tensor:
    """Twice the height and width, bilinear with align_corners=False."""
    return F.interpolate(features, scale_factor=2.0, mode='bilinear', align_corners=False)


@torch.no_grad()
def measure_norms(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the statistics of the batch norms that are in training mode to their plain averages over some batches.

    Running statistics follow the weights with a delay of a hundred steps; while the weights still move fast they are
    far off, and an average of weights has never seen its own ("precise BN", Wu & Johnson 2021, section 3).

    Args:
        model: run as it is, changed in place.
        batches: (B, 3, H, W) images each; none leaves everything as it was.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for index, images in enumerate(batches):
        if not index:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain average
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
