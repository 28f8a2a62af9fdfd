"""EfficientNet b0..b7 as a feature extractor (Tan & Le 2019), from the package efficientnet_pytorch.

In two flavours: as TensorFlow trained it (and the ports of its weights), and as torchvision did. They differ in how
strided convolutions are padded and in the batch norms' epsilon, so weights of one are not exact in the other.
"""

from __future__ import annotations

from typing import Any

import torch
from efficientnet_pytorch import EfficientNet
from torch import Tensor, nn

from sembox_ros.models.encoders.base import Encoder, with_input_channels

TORCHVISION_PREFIX = 'torchvision-'
VARIANTS = tuple(f'efficientnet-b{i}' for i in range(8))
NAMES = (*VARIANTS, *(TORCHVISION_PREFIX + name for name in VARIANTS))
# torchvision.models.efficientnet gives b5 to b7 TensorFlow's epsilon and the others torch's default.
TORCHVISION_EPS = {name: 1e-3 if name[-1] in '567' else 1e-5 for name in VARIANTS}


class SamePadConv(nn.Sequential):
    """Strided convolution with TensorFlow SAME padding for even input sizes (the odd pixel right and below).

    The library pads at run time before every convolution; on sizes that are multiples of 32 the amount is a
    constant, and stride-1 convolutions need no separate padding at all.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        low = (conv.kernel_size[0] - 2) // 2
        high = conv.kernel_size[0] - 2 - low
        super().__init__(nn.ZeroPad2d((low, high, low, high)), _plain_conv(conv, padding=0))


def _plain_conv(conv: nn.Conv2d, padding: int) -> nn.Conv2d:
    """A torch convolution of the same shape and the very same weight tensors."""
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        kernel_size=(conv.kernel_size[0], conv.kernel_size[1]),
        stride=(conv.stride[0], conv.stride[1]),
        padding=padding,
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    plain.weight = conv.weight
    plain.bias = conv.bias
    return plain


def _replace_library_layers(module: nn.Module, *, same: bool) -> None:
    """Swap the library's run-time padded convolutions and Python swish for torch's own, in place.

    Args:
        module: changed in place.
        same: pad strided convolutions as TensorFlow does, not by half the kernel on all sides.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            strided = same and child.stride[0] == 2
            plain = SamePadConv(child) if strided else _plain_conv(child, padding=child.kernel_size[0] // 2)
            setattr(module, name, plain)
        elif type(child).__name__ in ('MemoryEfficientSwish', 'Swish'):
            setattr(module, name, nn.SiLU())
        else:
            _replace_library_layers(child, same=same)


class EfficientNetEncoder(Encoder):
    """Backbone that gives c1 to c5.

    Args:
        name: ``efficientnet-b0`` to ``efficientnet-b7``, or one of these after ``torchvision-``.
        in_channels: of its input.
    """

    def __init__(self, name: str, in_channels: int = 3) -> None:
        variant = name.removeprefix(TORCHVISION_PREFIX)
        net = EfficientNet.from_name(variant, image_size=None, include_top=False)
        blocks = net._blocks
        strides = [_block_stride(block) for block in blocks]
        # A scale ends just before the next strided block; the last one ends with the network.
        ends = [i - 1 for i, stride in enumerate(strides) if stride == 2 and i > 0] + [len(strides) - 1]
        super().__init__(
            strides=(2, 4, 8, 16, 32), channels=tuple(blocks[i]._block_args.output_filters for i in ends), group_width=1
        )
        self._ends = tuple(ends)
        self.drop_connect_rate: float = net._global_params.drop_connect_rate
        self.stem, self.stem_norm, self.blocks = with_input_channels(net._conv_stem, in_channels), net._bn0, blocks
        self.activation = nn.SiLU(inplace=True)
        _replace_library_layers(self, same=name == variant)
        if name != variant:
            for norm in self.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.eps = TORCHVISION_EPS[variant]

    def stage(self, index: int, x: Tensor) -> Tensor:
        """See `Encoder.stage`."""
        if index == 0:
            x = self.activation(self.stem_norm(self.stem(x)))
        first = self._ends[index - 1] + 1 if index else 0
        for position in range(first, self._ends[index] + 1):
            # Stochastic depth grows with depth; the library's block applies it in training only.
            x = self.blocks[position](x, drop_connect_rate=self.drop_connect_rate * position / (self._ends[-1] + 1))
        return x

    def cut(self, stages: int) -> None:
        """See `Encoder.cut`."""
        self.blocks = self.blocks[: self._ends[stages - 1] + 1]


def create_library_blocks(name: str) -> nn.ModuleList:
    """The library's blocks of ``efficientnet-b0`` to ``-b7`` without weights, for the arguments that they carry."""
    with torch.device('meta'):
        blocks: nn.ModuleList = EfficientNet.from_name(name, image_size=None, include_top=False)._blocks
    return blocks


def _block_stride(block: nn.Module) -> int:
    arguments: Any = block._block_args
    stride = arguments.stride
    return int(stride[0] if isinstance(stride, (list, tuple)) else stride)
