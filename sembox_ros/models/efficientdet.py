"""EfficientDet D0 to D7 (Tan, Pang & Le 2020): the box half of SemanticBoxNet alone."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from sembox_ros.config import InputConfig, ModelConfig
from sembox_ros.errors import ConfigError
from sembox_ros.models.bifpn import LEVELS, BiFPN
from sembox_ros.models.box_head import BoxHead
from sembox_ros.models.encoders import create_encoder
from sembox_ros.models.encoders.base import Encoder
from sembox_ros.models.sembox import NetworkOutput, check_images


class Scaling(NamedTuple):
    """One row of the paper's table 1, with what the published weights add to it.

    Attributes:
        encoder: EfficientNet variant.
        channels: of the BiFPN and the box head.
        cells: BiFPN cells.
        depth: convolutions before the last one in the box head.
        size: height and width of the square input, in pixels.
        weighted: learned fusion weights; D6 and D7 add the maps as they are, which trains more stably.
        anchor_scale: side of the smallest square anchor, in strides.
    """

    encoder: str
    channels: int
    cells: int
    depth: int
    size: int
    weighted: bool = True
    anchor_scale: float = 4.0


SCALINGS = {
    'efficientdet_d0': Scaling('efficientnet-b0', 64, 3, 3, 512),
    'efficientdet_d1': Scaling('efficientnet-b1', 88, 4, 3, 640),
    'efficientdet_d2': Scaling('efficientnet-b2', 112, 5, 3, 768),
    'efficientdet_d3': Scaling('efficientnet-b3', 160, 6, 4, 896),
    'efficientdet_d4': Scaling('efficientnet-b4', 224, 7, 4, 1024),
    'efficientdet_d5': Scaling('efficientnet-b5', 288, 7, 4, 1280),
    'efficientdet_d6': Scaling('efficientnet-b6', 384, 8, 5, 1280, weighted=False),
    'efficientdet_d7': Scaling('efficientnet-b6', 384, 8, 5, 1536, weighted=False, anchor_scale=5.0),
}


class EfficientDet(nn.Module):
    """Boxes only, for any input size that is divisible by 128.

    Args:
        encoder: gives c2..c5.
        box_neck: c3..c5 to p3..p7.
        box_head: pyramid to class logits and regressions.
    """

    def __init__(self, *, encoder: Encoder, box_neck: BiFPN, box_head: BoxHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.box_neck = box_neck
        self.box_head = box_head

    def forward(self, images: Tensor) -> NetworkOutput:
        """Run the network.

        Args:
            images: (B, 3, H, W) normalised float images, H and W divisible by 128.

        Returns:
            Class logits and regressions; no semantic logits.

        Raises:
            InputError: another shape.
        """
        check_images(images)
        class_logits, box_regression = self.box_head(self.box_neck(self.encoder(images)[-3:]))
        return NetworkOutput(class_logits, box_regression, None)


def efficientdet_config(name: str, detection_classes: int = 90) -> ModelConfig:
    """Configuration of ``efficientdet_d0`` to ``efficientdet_d7``, without semantics.

    The fields of the semantic branch keep their defaults and mean nothing here.
    """
    scaling = SCALINGS[name]
    return ModelConfig(
        name=name,
        encoder=scaling.encoder,
        neck_channels=scaling.channels,
        neck_cells=scaling.cells,
        box_head_depth=scaling.depth,
        semantic_classes=0,
        detection_classes=detection_classes,
        anchor_scale=scaling.anchor_scale,
    )


def efficientdet_input(name: str) -> InputConfig:
    """What the published weights of ``efficientdet_d0`` to ``efficientdet_d7`` were trained with.

    The image scaled to fit a square, top left, zeros around it after normalisation; RGB, ImageNet statistics.
    """
    size = SCALINGS[name].size
    return InputConfig(size_hw=(size, size), resize='letterbox_fixed')


def create_efficientdet(config: ModelConfig) -> EfficientDet:
    """Build the network that `config` describes, with randomly initialised weights.

    Raises:
        ConfigError: it asks for semantic classes.
    """
    if config.semantic_classes:
        raise ConfigError(f'semantic_classes: expected 0, {config.name} only detects; got {config.semantic_classes}')
    encoder = create_encoder(config.encoder)
    channels = config.neck_channels
    weighted = SCALINGS[config.name].weighted
    return EfficientDet(
        encoder=encoder,
        box_neck=BiFPN(encoder.channels[-3:], channels, config.neck_cells, weighted=weighted),
        box_head=BoxHead(
            channels=channels, classes=config.detection_classes, depth=config.box_head_depth, levels=len(LEVELS)
        ),
    )
