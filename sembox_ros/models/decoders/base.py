"""What every decoder is: an encoder's features in, one map out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sembox_ros.config import ModelConfig
from sembox_ros.models.encoders.base import Encoder


class Decoder(nn.Module):
    """Features of all scales to one map of logits, or of whatever its loss makes of them.

    Args:
        encoder: whose features it takes.
        outputs: channels of the result.
        config: its size.

    Attributes:
        needs: what the strides of an encoder must be, in words, for refusals.
        stride: of the result; the network's output is resized from there, bilinear.
    """

    needs = 'at least four scales'
    stride: int

    def __init__(self, encoder: Encoder, outputs: int, config: ModelConfig) -> None:  # noqa: ARG002  every decoder's
        super().__init__()

    @classmethod
    def fits(cls, strides: tuple[int, ...]) -> bool:
        """Whether it takes features of these strides."""
        return len(strides) >= 4

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features, finest first, to (B, outputs, H / stride, W / stride)."""
        raise NotImplementedError


def initialise(decoder: nn.Module) -> None:
    """Weights for layers that ReLU follows (He et al. 2015), in place."""
    for module in decoder.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
            if module.bias is not None:
                nn.init.zeros_(module.bias)
