"""`ops.resize.resize_argmax` as one CUDA kernel: resize, maximum and softmax of a pixel without leaving its registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

if TYPE_CHECKING:
    from sembox_ros.ops.resize import AxisPlan

BLOCK = 256  # pixels of one row that a program computes


@triton.jit
def _resize_argmax_kernel(
    logits,
    row_center,
    row_matrix,
    column_center,
    column_matrix,
    ids,
    confidence,
    classes,
    height,
    width,
    image_width,
    ROW_TAPS: tl.constexpr,  # noqa: N803  (Triton's habit for compile-time constants)
    COLUMN_TAPS: tl.constexpr,  # noqa: N803
    WITH_CONFIDENCE: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """One row of the image, `BLOCK` pixels of it; arguments as in `resize_argmax_cuda`."""
    y = tl.program_id(0)
    x = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = x < image_width
    top = tl.load(row_center + y) - ROW_TAPS // 2
    left = tl.load(column_center + x, mask=inside, other=0) - COLUMN_TAPS // 2
    best = tl.full((BLOCK,), float('-inf'), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    index = tl.zeros((BLOCK,), tl.int32)
    for k in range(classes):
        value = tl.zeros((BLOCK,), tl.float32)
        for i in tl.static_range(ROW_TAPS):
            row = top + i
            row_inside = (row >= 0) & (row < height)
            row_weight = tl.load(row_matrix + y * height + row, mask=row_inside, other=0.0)
            for j in tl.static_range(COLUMN_TAPS):
                column = left + j
                there = inside & (column >= 0) & (column < width) & row_inside
                weight = row_weight * tl.load(column_matrix + x * width + column, mask=there, other=0.0)
                place = (k * height + row) * width + column
                value += weight * tl.load(logits + place, mask=there, other=0.0).to(tl.float32)
        higher = value > best
        index = tl.where(higher, k, index)
        if WITH_CONFIDENCE:  # the softmax's denominator as it grows (Milakov & Gimelshein 2018)
            highest = tl.where(higher, value, best)
            total = total * tl.exp(best - highest) + tl.exp(value - highest)
        best = tl.where(higher, value, best)
    tl.store(ids + y * image_width + x, index.to(tl.uint8), mask=inside)
    if WITH_CONFIDENCE:
        probability = tl.where(total >= 1.0, 1.0 / total, 0.0)  # no number where a logit was none
        tl.store(confidence + y * image_width + x, (probability * 255.0 + 0.5).to(tl.uint8), mask=inside)


def resize_argmax_cuda(
    logits: Tensor, rows: AxisPlan, columns: AxisPlan, *, with_confidence: bool
) -> tuple[Tensor, Tensor | None]:
    """As `ops.resize.resize_argmax`, with the exact softmax everywhere; see there.

    Args:
        logits: (K, h, w) on a CUDA device, of any float dtype.
        rows: how h becomes the image's height H, on the same device.
        columns: how w becomes its width W.
        with_confidence: also give the winning class's probability.
    """
    classes, height, width = logits.shape
    size_hw = len(rows.center), len(columns.center)
    ids = torch.empty(size_hw, dtype=torch.uint8, device=logits.device)
    confidence = torch.empty_like(ids) if with_confidence else None
    grid = (size_hw[0], triton.cdiv(size_hw[1], BLOCK))
    _resize_argmax_kernel[grid](
        logits.contiguous(), rows.center, rows.matrix, columns.center, columns.matrix,
        ids, ids if confidence is None else confidence, classes, height, width, size_hw[1],
        ROW_TAPS=2 * rows.radius + 1, COLUMN_TAPS=2 * columns.radius + 1,
        WITH_CONFIDENCE=with_confidence, BLOCK=BLOCK,
    )  # fmt: skip
    return ids, confidence
