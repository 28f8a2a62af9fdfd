"""What depth pays: how far its logarithm is off."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sembox_ros.errors import ConfigError
from sembox_ros.losses.maps import check_map, mean_of_images


@dataclass(frozen=True, kw_only=True)
class DepthLoss:
    """L1 of the logarithm of depth, over the pixels whose depth is known.

    A tenth too much costs the same near and far, and nearly what the relative error that is graded says. Nothing is
    squared: where an edge of depth runs through a pixel of the network's smaller map, one of its sides is far off, and
    would rule the gradient. Nor is the scale free, as in Eigen et al. 2014: what is published are metres.

    Args:
        max_depth_m: farther pixels count as unknown.

    Raises:
        ConfigError: an option is out of range.
    """

    max_depth_m: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.max_depth_m < float('inf'):
            raise ConfigError(f'max_depth_m: expected a finite number above 0, got {self.max_depth_m}')

    def __call__(self, log_depth: Tensor, depth: Tensor) -> dict[str, Tensor]:
        """The term of one batch.

        Args:
            log_depth: (B, 1, H, W) natural logarithm of metres, of any float dtype.
            depth: (B, H, W) float32 metres, 0 = unknown.

        Returns:
            `loss_depth`, a float32 scalar.

        Raises:
            InputError: shapes or dtypes do not fit each other.
        """
        check_map('log_depth', log_depth, 'depth', depth, torch.float32)
        known = (depth > 0) & (depth <= self.max_depth_m)
        difference = log_depth[:, 0].float() - depth.where(known, 1).log()
        return {'loss_depth': mean_of_images(difference.abs(), known)}
