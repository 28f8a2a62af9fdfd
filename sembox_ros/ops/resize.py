"""Resizing images and logits with bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

STRIP_VALUES = 2_000_000  # floats of one strip of full-size logits; larger ones measured slower (cache)


def fit_within(size_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> tuple[int, int]:
    """Largest size of the same aspect ratio that fits the canvas, at least one pixel each way."""
    height, width = size_hw
    scale = min(canvas_hw[0] / height, canvas_hw[1] / width)
    fitted = (round(height * scale), round(width * scale))
    return min(max(fitted[0], 1), canvas_hw[0]), min(max(fitted[1], 1), canvas_hw[1])


def resize_argmax(logits: Tensor, size_hw: tuple[int, int], *, with_confidence: bool) -> tuple[Tensor, Tensor | None]:
    """Class ids of logits resized bilinearly (align_corners=False), without ever holding all resized logits.

    Bilinear resizing is separable: columns are resized once, then rows are mixed and reduced strip by strip,
    so that memory grows with K x h x W and not with K x H x W.

    Args:
        logits: (K, h, w) on any device.
        size_hw: wanted height H and width W in pixels.
        with_confidence: also give the softmax probability of the winning class.

    Returns:
        (H, W) uint8 class ids and, if asked for, (H, W) uint8 probability times 255, else None.
    """
    classes, rows = logits.shape[:2]
    height, width = size_hw
    logits = logits.contiguous()  # class planes: the maximum over classes then runs along memory
    same_rows = rows == height
    if logits.shape[2] != width:
        logits = F.interpolate(logits[None], size=(rows, width), mode='bilinear', align_corners=False)[0]
    position = ((torch.arange(height, device=logits.device) + 0.5) * (rows / height) - 0.5).clamp(0, rows - 1)
    upper = position.long()
    lower = (upper + 1).clamp(max=rows - 1)
    weight = (position - upper).to(logits.dtype)[None, :, None]
    ids = torch.empty(size_hw, dtype=torch.uint8, device=logits.device)
    confidence = torch.empty_like(ids) if with_confidence else None
    strip = max(1, STRIP_VALUES // (classes * width))
    for start in range(0, height, strip):
        rows_here = slice(start, min(start + strip, height))
        if same_rows:
            values = logits[:, rows_here]
        else:
            values = torch.lerp(logits[:, upper[rows_here]], logits[:, lower[rows_here]], weight[:, rows_here])
        best, index = values.max(dim=0)
        ids[rows_here] = index.to(torch.uint8)
        if confidence is not None:
            probability = 1 / (values.float() - best.float()).exp().sum(dim=0)
            confidence[rows_here] = (probability * 255).round().nan_to_num(0).to(torch.uint8)
    return ids, confidence
