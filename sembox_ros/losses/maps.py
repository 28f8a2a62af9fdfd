"""What losses of maps, which compare every pixel with a label, share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sembox_ros.errors import InputError


def check_map(name: str, values: Tensor, truth_name: str, truth: Tensor, dtype: torch.dtype) -> None:
    """Raise an `InputError` that names the argument unless `values` is (B, 1, H, W) and `truth` (B, H, W) `dtype`."""
    if values.ndim != 4 or values.shape[1] != 1:
        raise InputError(f'{name}: expected (B, 1, H, W), got {tuple(values.shape)}')
    wanted = (values.shape[0], *values.shape[2:])
    if truth.shape != wanted or truth.dtype != dtype:
        raise InputError(
            f'{truth_name}: expected {wanted} {dtype} like {name}, got {tuple(truth.shape)} {truth.dtype}; '
            "bring both to the size of the network's input"
        )


def mean_of_images(losses: Tensor, known: Tensor) -> Tensor:
    """The mean over images of the mean over the pixels that are known; zero for an image without any.

    Args:
        losses: (B, H, W) float32, finite also where nothing is known.
        known: (B, H, W) bool.
    """
    total = losses.where(known, 0).sum(dim=(1, 2))
    return (total / known.sum(dim=(1, 2)).clamp(min=1)).mean()


def fit_labels(labels: Tensor | None, values: Tensor | None) -> Tensor | None:
    """Labels (B, H, W) at the size of the (B, C, h, w) map that they are for, which may have a size of its own.

    The nearest pixel counts. As they are where one of both is None.
    """
    if labels is None or values is None or labels.shape[1:] == values.shape[2:]:
        return labels
    return F.interpolate(labels[:, None].float(), values.shape[2:], mode='nearest-exact')[:, 0].to(labels.dtype)
