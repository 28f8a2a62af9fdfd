"""Exact algebra on a trained network: the same function in fewer operations, for evaluation only.

- A batch norm in evaluation is a fixed scale and shift per channel, which the convolution before it takes over.
- A chain of convolutions without a nonlinearity between them is one convolution.
- Weights that are normalised in every pass are normalised once.

Depthwise and pointwise convolutions stay apart: their product would be a dense convolution of nine times the cost.

`fold` knows the first for any `nn.Sequential` and for the pairs in `NAMED_PAIRS`. A module that knows better how
to simplify itself says so with a method `folded() -> nn.Module` that takes no arguments and may reuse its parts.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Convolution and batch norm that a module's own forward calls one after the other: efficientnet_pytorch, our encoder of
# it, torchvision's bottlenecks.
NAMED_PAIRS = (
    ('stem', 'stem_norm'),
    ('_expand_conv', '_bn0'),
    ('_depthwise_conv', '_bn1'),
    ('_project_conv', '_bn2'),
    ('conv1', 'bn1'),
    ('conv2', 'bn2'),
    ('conv3', 'bn3'),
)
Convolution = nn.Conv2d | nn.ConvTranspose2d


@runtime_checkable
class Foldable(Protocol):
    """A module that can give a cheaper one of the same function."""

    def folded(self) -> nn.Module:
        """The cheaper module."""
        ...


def fold(model: nn.Module) -> nn.Module:
    """A copy of the model that computes the same in fewer operations.

    Outputs agree to rounding; the copy is in evaluation mode and of no use for training, its state has other names
    than the model's. Folding a folded model changes nothing.

    Args:
        model: any network; it is left as it is.

    Returns:
        The copy, parameters without gradients.
    """
    return _fold(copy.deepcopy(model).eval()).eval().requires_grad_(False)


@torch.no_grad()
def load_folded(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a network the weights of a folded one, in place: its norms then do nothing but add the biases.

    Folding it again gives the same weights, bit for bit.

    Args:
        model: of the same architecture, without modules that have a fold of their own.
        state: of the folded network.
    """
    missing = set(model.load_state_dict(dict(state), strict=False).missing_keys)
    names = {module: name for name, module in model.named_modules()}
    for module in model.modules():
        for holder, conv_name, norm_name in _conv_norm_pairs(module):
            conv, norm = getattr(holder, conv_name), getattr(module, norm_name)
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
            norm.weight.fill_(1)
            norm.bias.copy_(state[f'{names[conv]}.bias'])
            if conv.bias is not None:
                conv.bias.zero_()
            missing -= {f'{names[norm]}.{name}' for name in norm.state_dict()}
    assert not missing, missing


def _fold(module: nn.Module) -> nn.Module:
    """Fold a module that is the caller's to change, innermost rules last."""
    if isinstance(module, Foldable):
        module = module.folded()
    for holder, conv_name, norm_name in list(_conv_norm_pairs(module)):
        conv, norm = getattr(holder, conv_name), getattr(module, norm_name)
        setattr(holder, conv_name, fuse_norm(conv, norm))
        setattr(module, norm_name, nn.Identity())
    for name, child in list(module.named_children()):
        setattr(module, name, _fold(child))
    return module


def _conv_norm_pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """(module that holds the convolution, its name there, name of the norm in `module`) of each direct pair."""
    children = dict(module.named_children())
    names = list(children)
    pairs = list(NAMED_PAIRS)
    if isinstance(module, nn.Sequential):
        pairs += itertools.pairwise(names)
    for conv_name, norm_name in pairs:
        conv, norm = children.get(conv_name), children.get(norm_name)
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None:
            continue
        if isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)):
            yield module, conv_name, norm_name
        elif isinstance(conv, nn.Sequential) and len(conv) and isinstance(conv[-1], nn.Conv2d):  # SamePadConv
            yield conv, str(len(conv) - 1), norm_name


def fuse_norm(conv: Convolution, norm: nn.BatchNorm2d) -> Convolution:
    """One convolution that does what `conv` and then `norm` do in evaluation mode; computed in float64."""
    dtype = conv.weight.dtype
    exact = copy.deepcopy(conv).eval().double(), copy.deepcopy(norm).eval().double()
    return fuse_conv_bn_eval(*exact, transpose=isinstance(conv, nn.ConvTranspose2d)).to(dtype)


def merge_convolutions(first: nn.Module, second: nn.Module) -> nn.Conv2d:
    """One unpadded convolution that does what `first` and then `second` do; computed in float64.

    With weights A (C, B, k, k) after and F (B, I, l, l) before, the product is the full convolution of the kernels,
    (C, I, k + l - 1, k + l - 1); the first one's bias passes through the sum of A's taps.

    Raises:
        ValueError: not two plain convolutions without padding, stride, dilation and groups.
    """
    for conv in (first, second):
        plain = isinstance(conv, nn.Conv2d) and (conv.stride, conv.dilation, conv.groups) == ((1, 1), (1, 1), 1)
        if not plain or conv.padding not in ((0, 0), 'valid'):
            raise ValueError(f'expected unpadded convolutions without stride, dilation and groups, got {conv}')
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    before, after = first.weight.detach().double(), second.weight.detach().double()
    rows, columns = after.shape[2:]
    # conv2d correlates: flipping the later kernel makes it the convolution that composing asks for.
    product = F.conv2d(before.transpose(0, 1), after.flip(2, 3), padding=(rows - 1, columns - 1)).transpose(0, 1)
    bias = after.new_zeros(after.shape[0])
    if first.bias is not None:
        bias = bias + after.sum(dim=(2, 3)) @ first.bias.detach().double()
    if second.bias is not None:
        bias = bias + second.bias.detach().double()
    size = (product.shape[2], product.shape[3])
    with torch.device('meta'):
        merged = nn.Conv2d(first.in_channels, second.out_channels, size)
    merged.weight = nn.Parameter(product.to(first.weight.dtype).contiguous())
    merged.bias = nn.Parameter(bias.to(first.weight.dtype))
    return merged.eval()
