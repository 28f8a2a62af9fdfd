"""SemanticBoxNet: one EfficientNet, a pyramid for boxes, one for semantics, and their heads."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from sembox_ros.config import SIZE_DIVISOR, ModelConfig
from sembox_ros.errors import ConfigError, InputError
from sembox_ros.models.bifpn import LEVELS, BiFPN
from sembox_ros.models.box_head import BoxHead
from sembox_ros.models.encoder import EfficientNetEncoder
from sembox_ros.models.semantic_head import SemanticHead

SEMANTIC_LEVELS = 3  # p3, p4, p5 are what the semantic head reads


class NetworkOutput(NamedTuple):
    """Raw tensors of one forward pass.

    Attributes:
        class_logits: (B, A, K) before the sigmoid, anchors in the order of `ops.anchors.create_anchors`.
        box_regression: (B, A, 4) dx, dy, dw, dh against the anchors.
        semantic_logits: (B, K, H, W) before the softmax; None from a network that only detects.
    """

    class_logits: Tensor
    box_regression: Tensor
    semantic_logits: Tensor | None


def check_images(images: Tensor) -> None:
    """Refuse what the networks cannot halve seven times.

    Raises:
        InputError: not (B, 3, H, W) with H and W divisible by 128.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f'images: expected (B, 3, H, W), got {tuple(images.shape)}')
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
        box_head: pyramid to class logits and regressions.
        semantic_head: c2, p3, p4, p5 to logits at input size.
    """

    def __init__(
        self,
        *,
        encoder: EfficientNetEncoder,
        box_neck: BiFPN,
        semantic_neck: BiFPN | None,
        box_head: BoxHead,
        semantic_head: nn.Module,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.box_neck = box_neck
        self.semantic_neck = semantic_neck
        self.box_head = box_head
        self.semantic_head = semantic_head

    def forward(self, images: Tensor) -> NetworkOutput:
        """Run the network.

        Args:
            images: (B, 3, H, W) normalised float images, H and W divisible by 128.

        Raises:
            InputError: another shape.
        """
        check_images(images)
        c2, c3, c4, c5 = self.encoder(images)
        pyramid = self.box_neck((c3, c4, c5))
        semantic = pyramid if self.semantic_neck is None else self.semantic_neck((c3, c4, c5))
        class_logits, box_regression = self.box_head(pyramid)
        return NetworkOutput(class_logits, box_regression, self.semantic_head((c2, *semantic[:SEMANTIC_LEVELS])))


def create_sembox(config: ModelConfig) -> SemanticBoxNet:
    """Build the network that `config` describes, with randomly initialised weights.

    Raises:
        ConfigError: it has no semantic classes.
    """
    if not config.semantic_classes:
        raise ConfigError(f'semantic_classes: {config.name} needs at least one, got 0; efficientdet_* has none')
    encoder = EfficientNetEncoder(config.encoder)
    channels = config.neck_channels

    def neck(outputs: int) -> BiFPN:
        return BiFPN(encoder.channels[1:], channels, config.neck_cells, outputs)

    return SemanticBoxNet(
        encoder=encoder,
        box_neck=neck(len(LEVELS)),
        semantic_neck=neck(SEMANTIC_LEVELS) if config.separate_semantic_neck else None,
        box_head=BoxHead(
            channels=channels, classes=config.detection_classes, depth=config.box_head_depth, levels=len(LEVELS)
        ),
        semantic_head=SemanticHead(
            in_channels=(encoder.channels[0], channels, channels, channels),
            channels=config.semantic_channels,
            dpc_channels=config.dpc_channels,
            classes=config.semantic_classes,
        ),
    )
