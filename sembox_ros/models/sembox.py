"""SemanticBoxNet: one EfficientNet, a pyramid for boxes, one for semantics, and their heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sembox_ros.config import SIZE_DIVISOR, ModelConfig
from sembox_ros.errors import ConfigError, InputError
from sembox_ros.models.bifpn import LEVELS, BiFPN
from sembox_ros.models.box_head import BoxHead
from sembox_ros.models.encoders import create_encoder
from sembox_ros.models.encoders.base import Encoder
from sembox_ros.models.instance_head import InstanceHead
from sembox_ros.models.semantic_head import SemanticHead
from sembox_ros.ops.grids import grid_shapes
from sembox_ros.ops.resize import resize_through

SEMANTIC_LEVELS = 3  # p3, p4, p5 are what the semantic head reads


class NetworkOutput(NamedTuple):
    """Raw tensors of one forward pass.

    Attributes:
        class_logits: (B, A, K) before the sigmoid, anchors in the order of `ops.anchors.create_anchors`. None, as the
            next one, from a network without a box head.
        box_regression: (B, A, 4) dx, dy, dw, dh against the anchors.
        semantic_logits: (B, K, h, w) before the softmax, smaller than the input: `semantic_sizes` of the network says
            how they are resized. None from a network that only detects.
        category_logits: (B, G, K) before the sigmoid: what is in each cell of the instance head's grids, p3's first,
            row by row. None, as the next two, from a network without an instance head.
        mask_kernels: (B, G, E): a 1x1 convolution for each cell.
        mask_features: (B, E, h, w) that the kernels turn into mask logits, at a quarter of the input's size.
        log_depth: (B, 1, h, w) natural logarithm of the depth in metres, as large as semantic logits would be. None, as
            the next one, from a network without that task.
        motion_logits: (B, 1, h, w) before the sigmoid: what moves in the world.
    """

    class_logits: Tensor | None = None
    box_regression: Tensor | None = None
    semantic_logits: Tensor | None = None
    category_logits: Tensor | None = None
    mask_kernels: Tensor | None = None
    mask_features: Tensor | None = None
    log_depth: Tensor | None = None
    motion_logits: Tensor | None = None


# What covers the image in the same way and is resized alike.
MAPS = ('semantic_logits', 'log_depth', 'motion_logits')


def output_fields(config: ModelConfig) -> tuple[str, ...]:
    """The names in `NetworkOutput` of what a network of this configuration gives, in their order."""
    boxes = ('class_logits', 'box_regression') if config.box_head else ()
    semantic = ('semantic_logits',) if config.semantic_classes else ()
    instances = ('category_logits', 'mask_kernels', 'mask_features') if config.instance_channels else ()
    depth = ('log_depth',) if 'depth' in config.tasks else ()
    motion = ('motion_logits',) if 'motion' in config.tasks else ()
    return (*boxes, *semantic, *instances, *depth, *motion)


def concatenate(outputs: Sequence[NetworkOutput]) -> NetworkOutput:
    """The outputs of some batches as that of one; a single one as it is."""
    if len(outputs) == 1:
        return outputs[0]
    columns = zip(*outputs, strict=True)
    return NetworkOutput._make(None if column[0] is None else torch.cat(column) for column in columns)


def check_images(images: Tensor, channels: int = 3) -> None:
    """Refuse what the networks cannot halve seven times.

    Raises:
        InputError: not (B, channels, H, W) with H and W divisible by 128.
    """
    if images.ndim != 4 or images.shape[1] != channels:
        raise InputError(f'images: expected (B, {channels}, H, W), got {tuple(images.shape)}')
    height, width = images.shape[2:]
    if not height or not width or height % SIZE_DIVISOR or width % SIZE_DIVISOR:
        raise InputError(
            f'images: expected height and width divisible by {SIZE_DIVISOR}, got {height}x{width}; pad them'
        )


class SemanticBoxNet(nn.Module):
    """The network of this package, for any input size that is divisible by 128.

    Args:
        encoder: gives c2..c5.
        box_neck: c3..c5 to p3..p7 for the box head.
        semantic_neck: the same for the semantic head, or None to share the box branch's.
        box_head: pyramid to class logits and regressions, or None.
        semantic_head: c2, p3, p4, p5 to logits at input size.
        instance_head: the box branch's pyramid and c2 to categories, kernels and mask features, or None.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        box_neck: BiFPN,
        semantic_neck: BiFPN | None,
        box_head: BoxHead | None,
        semantic_head: nn.Module,
        instance_head: InstanceHead | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.box_neck = box_neck
        self.semantic_neck = semantic_neck
        self.box_head = box_head
        self.semantic_head = semantic_head
        self.instance_head = instance_head

    def forward(self, images: Tensor) -> NetworkOutput:
        """Run the network.

        Args:
            images: (B, 3, H, W) normalised float images, H and W divisible by 128.

        Raises:
            InputError: another shape.
        """
        check_images(images)
        c2, c3, c4, c5 = self.encoder(images)[-4:]
        pyramid = self.box_neck((c3, c4, c5))
        semantic = pyramid if self.semantic_neck is None else self.semantic_neck((c3, c4, c5))
        absent = (None, None, None)
        boxes = absent[:2] if self.box_head is None else self.box_head(pyramid)
        logits = self.semantic_head((c2, *semantic[:SEMANTIC_LEVELS]))
        instances = absent if self.instance_head is None else self.instance_head(c2, pyramid)
        return NetworkOutput._make((*boxes, logits, *instances, *absent[:2]))

    def semantic_sizes(self, logits_hw: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """What semantic logits of a size are resized to, bilinear and one after the other, until they cover the input.

        Whoever wants masks leaves that to `ops.resize`, which never makes logits of full size.
        """
        height, width = logits_hw
        return (2 * height, 2 * width), (4 * height, 4 * width)


def resize_maps(network: Any, output: NetworkOutput) -> NetworkOutput:
    """The output with its `MAPS` at the size that they stand for, for losses and comparisons.

    Args:
        network: that gave it.
        output: of the network or of its folded copy.
    """
    given = {name: getattr(output, name) for name in MAPS}
    resized = {k: resize_through(v, semantic_sizes(network, v)) for k, v in given.items() if v is not None}
    return output._replace(**resized)


def semantic_sizes(network: Any, logits: Tensor) -> tuple[tuple[int, int], ...]:
    """What semantic logits (..., h, w) of a network are resized to; see `SemanticBoxNet.semantic_sizes`.

    Nothing for a network that does not say: its logits have the size that they stand for.
    """
    if not hasattr(network, 'semantic_sizes'):
        return ()
    sizes: tuple[tuple[int, int], ...] = network.semantic_sizes((logits.shape[-2], logits.shape[-1]))
    return sizes


def map_sizes(network: Any, output: NetworkOutput) -> tuple[tuple[int, int], ...]:
    """What the `MAPS` of an output, which are of one size, are resized to; nothing where there are none."""
    maps = [tensor for name in MAPS if (tensor := getattr(output, name)) is not None]
    return semantic_sizes(network, maps[0]) if maps else ()


def create_sembox(config: ModelConfig) -> SemanticBoxNet:
    """Build the network that `config` describes, with randomly initialised weights.

    Raises:
        ConfigError: it has no semantic classes, or an encoder of other strides.
    """
    if not config.semantic_classes:
        raise ConfigError(f'semantic_classes: {config.name} needs at least one, got 0; efficientdet_* has none')
    encoder = create_encoder(config.encoder)
    if encoder.strides[-4:] != (4, 8, 16, 32):
        raise ConfigError(
            f'encoder: {config.name} needs features of strides 4, 8, 16 and 32 at the end, {config.encoder} has '
            f'{", ".join(map(str, encoder.strides))}'
        )
    channels = config.neck_channels

    def neck(outputs: int) -> BiFPN:
        return BiFPN(encoder.channels[-3:], channels, config.neck_cells, outputs)

    return SemanticBoxNet(
        encoder=encoder,
        box_neck=neck(len(LEVELS)),
        semantic_neck=neck(SEMANTIC_LEVELS) if config.separate_semantic_neck else None,
        box_head=BoxHead(
            channels=channels, classes=config.detection_classes, depth=config.box_head_depth, levels=len(LEVELS)
        )
        if config.box_head
        else None,
        semantic_head=SemanticHead(
            in_channels=(encoder.channels[-4], channels, channels, channels),
            channels=config.semantic_channels,
            dpc_channels=config.dpc_channels,
            classes=config.semantic_classes,
        ),
        instance_head=InstanceHead(
            pyramid_channels=channels,
            c2_channels=encoder.channels[-4],
            channels=config.instance_head_channels,
            depth=config.instance_head_depth,
            features=config.instance_channels,
            classes=config.detection_classes,
            shapes=grid_shapes(config.instance_grids, config.instance_grid_aspect),
        )
        if config.instance_channels
        else None,
    )
