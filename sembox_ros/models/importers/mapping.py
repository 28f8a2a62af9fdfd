"""From another project's state dict to ours: every key is renamed or deliberately unused, and every shape is checked.

The helpers name the parts that the networks built on zylo117's EfficientDet port share (facts of their state
dicts, read from https://github.com/zylo117/Yet-Another-EfficientDet-Pytorch): separable convolutions, the
EfficientNet backbone, the BiFPN and the two box heads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sembox_ros.config import InputConfig, ModelConfig
from sembox_ros.errors import CheckpointError
from sembox_ros.labels import SceneLabels
from sembox_ros.models.bifpn import LEVELS
from sembox_ros.models.encoders.efficientnet import EfficientNetEncoder, SamePadConv
from sembox_ros.ops.anchors import ANCHORS_PER_CELL

NORM_KEYS = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
SHOWN_KEYS = 3  # of the offending ones in a message

Transform = Callable[[Tensor], Tensor]


class KeyMap:
    """What becomes of each key of a source state dict.

    Fill it with `rename` and `ignore`, then `apply` it. It knows names only; shapes come from the state and the model.
    """

    def __init__(self) -> None:
        self._renames: dict[str, tuple[str, Transform | None]] = {}
        self._ignored: set[str] = set()
        self._sources: dict[str, str] = {}  # target -> source

    def rename(self, source: str, target: str, transform: Transform | None = None) -> None:
        """The source's tensor, transformed if need be, is the model's `target`.

        Raises:
            ValueError: one of the two names was given before (a mistake in an importer).
        """
        if source in self._renames or source in self._ignored or target in self._sources:
            raise ValueError(f"'{source}' -> '{target}': each key may be mapped only once")
        self._renames[source] = (target, transform)
        self._sources[target] = source

    def ignore(self, source: str) -> None:
        """The source's tensor is deliberately unused; it may also be absent.

        Raises:
            ValueError: it was renamed before (a mistake in an importer).
        """
        if source in self._renames:
            raise ValueError(f"'{source}' cannot be both renamed and unused")
        self._ignored.add(source)

    def apply(self, state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        """The model's state dict made from the source's.

        Args:
            state: source key -> tensor.
            model: gives the names, shapes and dtypes wanted; may live on the meta device.

        Returns:
            One tensor for every key of `model.state_dict()`, in the model's dtypes.

        Raises:
            CheckpointError: a source key is neither renamed nor ignored, a key is missing, or a tensor has
                another shape or kind of number, or holds NaN or infinity.
        """
        wanted = model.state_dict()
        left_over = [k for k in state if k not in self._renames and k not in self._ignored]
        missing = [k for k in self._renames if k not in state]
        unfilled = [k for k in wanted if k not in self._sources]
        unknown = [k for k in self._sources if k not in wanted]
        problems = [
            f'{len(keys)} {what} ({_shown(keys)})'
            for what, keys in (
                ('missing in the file', missing),
                ('left over in the file', left_over),
                ('of the model not covered by the importer', unfilled),
                ('of the importer not in the model', unknown),
            )
            if keys
        ]
        if problems:
            raise CheckpointError(
                f'keys: expected {len(self._renames)} of this source, got {len(state)}: {"; ".join(problems)}; '
                'is it a file of this network?'
            )
        return {
            target: _fitted(source, target, state[source], transform, wanted[target])
            for source, (target, transform) in self._renames.items()
        }


class ImportPlan(NamedTuple):
    """How one source becomes a checkpoint.

    Attributes:
        config: the zoo model that holds it.
        key_map: from its keys to those of the model, or of its `part`.
        labels: what its class ids mean, unless the user says otherwise.
        input: the preprocessing that it was trained with.
        intermediates: name of a golden's tensor (``feature_p3``, ``mid:bifpn.0.1``) -> path of our module, with
            ``:index`` where that returns a list.
        part: submodule that the file fills; empty: the whole network.
        categories: what the classes of a network that names whole images are called.
    """

    config: ModelConfig
    key_map: KeyMap
    labels: SceneLabels
    input: InputConfig
    intermediates: Mapping[str, str]
    part: str = ''
    categories: tuple[str, ...] = ()


def _shown(keys: Iterable[str]) -> str:
    first = list(itertools.islice(keys, SHOWN_KEYS + 1))
    dots = ', ...' if len(first) > SHOWN_KEYS else ''
    return ', '.join(' '.join(f"'{k[:120]}'".split()) for k in first[:SHOWN_KEYS]) + dots


def _fitted(source: str, target: str, tensor: Tensor, transform: Transform | None, wanted: Tensor) -> Tensor:
    """The source's tensor in the shape and dtype of the model's, a copy of its own."""
    shape = tuple(tensor.shape)
    # Counted first: a view that claims terabytes (stride 0) must not reach a transform that would copy it.
    if transform is not None and tensor.numel() == wanted.numel():
        try:
            tensor = transform(tensor)
        except (RuntimeError, IndexError, ValueError) as error:  # what torch raises for shapes that do not fit
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"'{source}': shape {shape} cannot become '{target}' {tuple(wanted.shape)}: {reason}"
            ) from error
    if tensor.shape != wanted.shape:
        raise CheckpointError(
            f"'{source}' for '{target}': expected shape {tuple(wanted.shape)}, got {tuple(tensor.shape)}"
        )
    if tensor.is_floating_point() != wanted.is_floating_point() or tensor.is_complex():
        raise CheckpointError(f"'{source}' for '{target}': expected {wanted.dtype}, got {tensor.dtype}")
    tensor = tensor.to(wanted.dtype)
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"'{source}' holds NaN or infinity; its training run diverged, or the file is damaged")
    return tensor.detach().contiguous().clone()


def add_norm(keys: KeyMap, source: str, target: str) -> None:
    """Batch norm to batch norm."""
    for name in NORM_KEYS:
        keys.rename(f'{source}.{name}', f'{target}.{name}')


def add_separable(
    keys: KeyMap, source: str, target: str, *, norm: bool = True, pointwise: Transform | None = None
) -> None:
    """Separable convolution to `layers.SeparableConv`.

    Args:
        keys: where the renames go.
        source: holds `depthwise_conv.conv`, `pointwise_conv.conv` and, with `norm`, `bn`.
        target: path of the SeparableConv.
        norm: it ends with a batch norm.
        pointwise: applied to the pointwise weight and bias, both of which have the outputs first.
    """
    keys.rename(f'{source}.depthwise_conv.conv.weight', f'{target}.0.weight')
    keys.rename(f'{source}.pointwise_conv.conv.weight', f'{target}.1.weight', pointwise)
    keys.rename(f'{source}.pointwise_conv.conv.bias', f'{target}.1.bias', pointwise)
    if norm:
        add_norm(keys, f'{source}.bn', f'{target}.2')


def add_conv_norm(keys: KeyMap, source: str, target: str) -> None:
    """`source.0.conv` with bias and batch norm `source.1` to `layers.ConvNorm`."""
    keys.rename(f'{source}.0.conv.weight', f'{target}.0.weight')
    keys.rename(f'{source}.0.conv.bias', f'{target}.0.bias')
    add_norm(keys, f'{source}.1', f'{target}.1')


def add_encoder(keys: KeyMap, source: str, target: str, encoder: str, *, wrapped: bool = True) -> None:
    """EfficientNet to `encoders.efficientnet`.

    Args:
        keys: where the renames go.
        source: prefix with its dot, such as ``backbone_net.model.``; may be empty.
        target: prefix with its dot, such as ``encoder.``; may be empty.
        encoder: ``efficientnet-b0`` to ``efficientnet-b7``.
        wrapped: convolutions are `name.conv.weight` there, as in zylo117's port, not `name.weight`, as in lukemelas'.
    """
    with torch.device('meta'):
        ours = EfficientNetEncoder(encoder)
    for path, module in ours.named_modules():
        theirs = path.replace('blocks.', '_blocks.').replace('stem_norm', '_bn0')
        if isinstance(module, nn.BatchNorm2d):
            add_norm(keys, source + theirs, target + path)
        elif isinstance(module, nn.Conv2d):
            parent = path.rpartition('.')[0]
            if isinstance(ours.get_submodule(parent), SamePadConv):
                theirs = theirs.rpartition('.')[0]
            theirs = theirs.replace('stem', '_conv_stem') + ('.conv' if wrapped else '')
            for name, _ in module.named_parameters():
                keys.rename(f'{source}{theirs}.{name}', f'{target}{path}.{name}')


def add_bifpn(keys: KeyMap, source: str, target: str, cells: int, *, attention: bool = True) -> None:
    """BiFPN to `bifpn.BiFPN` with all five outputs.

    Args:
        keys: where the renames go.
        source: module name, such as ``bifpn``.
        target: module path, such as ``box_neck``.
        cells: number of cells.
        attention: learned fusion weights; without, the source holds them too but never reads them.
    """
    for index in range(cells):
        cell = f'{source}.{index}'
        for step, suffix, levels, side in ((1, 'up', LEVELS[:-1], 'top_down'), (2, 'down', LEVELS[1:], 'bottom_up')):
            for i, level in enumerate(levels):
                node = f'{target}.cells.{index}.{side}.{i}'
                if attention:
                    keys.rename(f'{cell}.p{level}_w{step}', f'{node}.weight')
                else:
                    keys.ignore(f'{cell}.p{level}_w{step}')
                add_separable(keys, f'{cell}.conv{level}_{suffix}', f'{node}.conv')
    for i, level in enumerate(LEVELS[:3]):
        add_conv_norm(keys, f'{source}.0.p{level}_down_channel', f'{target}.project.{i}')
    add_conv_norm(keys, f'{source}.0.p5_to_p6', f'{target}.project_p6')
    for i, level in enumerate(LEVELS[1:3]):
        add_conv_norm(keys, f'{source}.0.p{level}_down_channel_2', f'{target}.project_skip.{i}')


def add_box_heads(keys: KeyMap, target: str, depth: int) -> None:
    """`regressor` and `classifier` to `box_head.BoxHead`.

    Args:
        keys: where the renames go.
        target: module path of the BoxHead.
        depth: convolutions before the last one.
    """
    for source, tower, last in (('regressor', 'regress', swap_box_axes), ('classifier', 'classify', None)):
        for i in range(depth):
            add_separable(keys, f'{source}.conv_list.{i}', f'{target}.{tower}.convs.{i}', norm=False)
            for level in range(len(LEVELS)):
                add_norm(keys, f'{source}.bn_list.{level}.{i}', f'{target}.{tower}.norms.{level}.{i}')
        add_separable(keys, f'{source}.header', f'{target}.{tower}.last', norm=False, pointwise=last)


def swap_box_axes(tensor: Tensor) -> Tensor:
    """Rows for dy, dx, dh, dw of each anchor to rows for dx, dy, dw, dh; the same function turns them back.

    Args:
        tensor: (anchors per cell x 4, ...), a convolution's weight or bias.

    Returns:
        The same shape, a copy.
    """
    return tensor.unflatten(0, (ANCHORS_PER_CELL, 4))[:, [1, 0, 3, 2]].flatten(0, 1)
