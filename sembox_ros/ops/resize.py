"""Resizing: how an image fits a canvas, and masks at image size without logits at image size.

A network gives its semantic logits at a fraction of the image's size. Several bilinear resizes lie between them and the
image's pixels (the network's own, a crop of the padding, the camera's size). Each is linear and separable, so together
they are one sparse matrix for rows and one for columns: `plan_axis` multiplies them once, and `resize_argmax`
evaluates the result only where the class is not certain beforehand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_logger = logging.getLogger(__name__)

CHUNK_VALUES = 600_000  # logits evaluated at a time: they stay in the CPU's cache, and no image needs more memory
CERTAIN = 0.7  # where all around is at least this probable, the confidence is near enough without evaluating it


def fit_within(size_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> tuple[int, int]:
    """Largest size of the same aspect ratio that fits the canvas, at least one pixel each way."""
    height, width = size_hw
    scale = min(canvas_hw[0] / height, canvas_hw[1] / width)
    fitted = (round(height * scale), round(width * scale))
    return min(max(fitted[0], 1), canvas_hw[0]), min(max(fitted[1], 1), canvas_hw[1])


def resize_through(logits: Tensor, sizes_hw: Sequence[tuple[int, int]]) -> Tensor:
    """(B, K, h, w) resized to one size after the other, bilinear with align_corners=False."""
    for size_hw in sizes_hw:
        if tuple(logits.shape[2:]) != tuple(size_hw):
            logits = F.interpolate(logits, size=size_hw, mode='bilinear', align_corners=False)
    return logits


class AxisPlan(NamedTuple):
    """What the values along one axis of the image are made of; S source values, N pixels, T taps.

    Attributes:
        matrix: (N, S) float32 weights, from zero up; each row sums to one.
        center: (N,) int64 source value in the middle of those that a pixel reads.
        pixels: (S, P) int64 the pixels around each source value; the last one repeated where there are fewer.
        weights: (S, T, P) float32 their weights for the source values within the radius.
        used: (S,) bool whether there are any pixels.
        radius: how far from its center the source values of a pixel lie at most; T = 2 radius + 1.
    """

    matrix: Tensor
    center: Tensor
    pixels: Tensor
    weights: Tensor
    used: Tensor
    radius: int


@lru_cache(maxsize=32)  # a camera's size is always the same, and a stream of ever-changing sizes must not grow memory
def plan_axis(source: int, sizes: tuple[int, ...], window: int, pixels: int, device: torch.device) -> AxisPlan:
    """Several bilinear resizes (align_corners=False) of one axis as one.

    Args:
        source: length of the logits along the axis.
        sizes: lengths that they are resized to, one after the other; may be empty.
        window: of the last of them, the first so many values are kept.
        pixels: what these are resized to in the end.
        device: where the plan's tensors lie.
    """
    matrix = torch.eye(source, dtype=torch.float64)[None]
    for size in sizes:
        matrix = F.interpolate(matrix, size=size, mode='linear', align_corners=False)
    matrix = F.interpolate(matrix[..., :window], size=pixels, mode='linear', align_corners=False)[0].T.contiguous()
    reached = matrix > 0
    position = torch.arange(source)
    first = torch.where(reached, position, source).amin(dim=1)
    last = torch.where(reached, position, -1).amax(dim=1)
    # The value nearest to the middle of what is read; taps lie alike on both sides of it.
    center = (matrix @ position.double()).round().long()
    radius = int(torch.maximum(center - first, last - center).amax())
    taps = F.pad(matrix, (radius, radius)).gather(1, center[:, None] + torch.arange(2 * radius + 1))  # (N, T)
    counts = torch.bincount(center, minlength=source)
    order = torch.minimum(torch.arange(int(counts.amax())), (counts[:, None] - 1).clamp(min=0))
    # `center` never falls along the axis, so the pixels of a source value lie side by side.
    members = ((counts.cumsum(0) - counts)[:, None] + order).clamp(max=pixels - 1)
    weights = taps.float()[members].transpose(1, 2).contiguous()
    tensors = [part.to(device) for part in (matrix.float(), center, members, weights, counts > 0)]
    return AxisPlan._make([*tensors, radius])


def resize_argmax(
    logits: Tensor, rows: AxisPlan, columns: AxisPlan, *, with_confidence: bool
) -> tuple[Tensor, Tensor | None]:
    """Class ids of resized logits, without ever holding all resized logits.

    A resized value is a weighted mean of the few logits around it. Where one class has the largest logit in all of
    these, it has the largest mean too, so nothing needs to be computed: in pictures of the world that is most of the
    image. The rest is evaluated in chunks. The result is that of resizing everything, up to rounding.

    Args:
        logits: (K, h, w) on any device, of any float dtype; K up to 255.
        rows: how h becomes the image's height H, on the same device.
        columns: how w becomes its width W.
        with_confidence: also give the winning class's softmax probability. Where nothing needs to be computed it
            comes from the winner's log-odds, resized alike: on streets, off by 0.2 of 255 in the mean and by more
            than 8 in one pixel of three hundred.

    Returns:
        (H, W) uint8 class ids and, if asked for, (H, W) uint8 probability times 255, else None.
    """
    kernel = _cuda_kernel(logits.device) if logits.is_cuda else None
    if kernel is not None:
        return kernel(logits, rows, columns, with_confidence=with_confidence)
    return resize_argmax_plain(logits, rows, columns, with_confidence=with_confidence)


@lru_cache(maxsize=8)
def _cuda_kernel(device: torch.device) -> Callable[..., tuple[Tensor, Tensor | None]] | None:
    """The fused kernel, if Triton is installed and compiles it for this device."""
    try:
        from sembox_ros.ops.fused_argmax import resize_argmax_cuda

        plan = plan_axis(2, (), 2, 4, device)
        resize_argmax_cuda(torch.zeros(2, 2, 2, device=device), plan, plan, with_confidence=True)
    except Exception as error:  # of compilers and drivers, which share no base class
        _logger.warning('masks are made without the CUDA kernel, which is slower: %s', error)
        return None
    return resize_argmax_cuda


def resize_argmax_plain(
    logits: Tensor, rows: AxisPlan, columns: AxisPlan, *, with_confidence: bool
) -> tuple[Tensor, Tensor | None]:
    """`resize_argmax` in PyTorch alone, on any device; what the CPU runs."""
    logits = logits.float()
    low_ids, best = _argmax(logits)
    ids = low_ids.index_select(1, columns.center).index_select(0, rows.center)  # whole rows are copied last
    certain = _highest(low_ids.float(), rows, columns) == -_highest(-low_ids.float(), rows, columns)
    confidence = None
    if with_confidence:
        probs = 1 / (logits - best).exp_().sum(dim=0)
        confidence = _resize_confidence(probs, rows, columns)
        certain &= -_highest(-probs, rows, columns) >= CERTAIN
    cells = (~certain & rows.used[:, None] & columns.used).nonzero()
    if len(cells):
        size = rows.pixels.shape[1] * columns.pixels.shape[1] * len(logits)
        table = _pad(logits, rows, columns).permute(1, 2, 0).contiguous()
        for chunk in cells.split(max(1, CHUNK_VALUES // size)):
            _evaluate(chunk, table, rows, columns, ids, confidence)
    return ids, confidence


def _argmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(K, h, w) to class ids (h, w) uint8 and their logits; faster than torch's own. NaN never wins."""
    best = logits[0].nan_to_num(nan=-torch.inf)
    ids = torch.zeros(best.shape, dtype=torch.uint8, device=logits.device)
    for index, plane in enumerate(logits[1:], start=1):
        ids = torch.maximum(ids, (plane > best).view(torch.uint8) * index)  # the index only grows
        best = torch.fmax(best, plane)
    return ids, best


def _highest(plane: Tensor, rows: AxisPlan, columns: AxisPlan) -> Tensor:
    """(h, w): the highest value within the radii around each place."""
    kernel = (2 * rows.radius + 1, 2 * columns.radius + 1)
    return F.max_pool2d(_pad(plane[None], rows, columns), kernel, stride=1)[0]


def _pad(planes: Tensor, rows: AxisPlan, columns: AxisPlan) -> Tensor:
    """(K, h, w) with its borders repeated by the radii."""
    padding = (columns.radius, columns.radius, rows.radius, rows.radius)
    return F.pad(planes[None], padding, mode='replicate')[0]


def _resize_confidence(probs: Tensor, rows: AxisPlan, columns: AxisPlan) -> Tensor:
    """The winner's probability, (h, w) to (H, W) uint8, by its log-odds: they run as straight as logits do."""
    log_odds = torch.logit(probs.nan_to_num(0.0), eps=1e-6)
    return _to_byte((rows.matrix @ (log_odds @ columns.matrix.T)).sigmoid_())


def _to_byte(probs: Tensor) -> Tensor:
    """Probabilities to uint8, 255 for one; NaN, of logits that are none, to zero. Changes what it is given."""
    return probs.mul_(255).add_(0.5).nan_to_num_(0.0).to(torch.uint8)


def _evaluate(
    cells: Tensor,
    table: Tensor,
    rows: AxisPlan,
    columns: AxisPlan,
    ids: Tensor,
    confidence: Tensor | None,
) -> None:
    """Compute the pixels of some source cells (M, 2) in full, and write them into `ids` and `confidence`."""
    y, x = cells.unbind(dim=1)
    taps_y, taps_x = (torch.arange(2 * plan.radius + 1, device=cells.device) for plan in (rows, columns))
    source = ((y[:, None] + taps_y)[:, :, None], (x[:, None] + taps_x)[:, None, :])  # (M, Ty, Tx)
    pixel_y, pixel_x = rows.pixels[y], columns.pixels[x]  # (M, Py), (M, Px)
    # A pixel's weight for a tap is its row's times its column's; P runs innermost, so that the product is fast.
    shape = (len(y), -1, 1, pixel_y.shape[1] * pixel_x.shape[1])
    row_weights = rows.weights[y].repeat_interleave(pixel_x.shape[1], dim=2).view(shape)  # (M, Ty, 1, Py Px)
    column_weights = columns.weights[x].repeat(1, 1, pixel_y.shape[1]).view(shape).transpose(1, 2)
    weights = (row_weights * column_weights).flatten(1, 2).transpose(1, 2)  # (M, Py Px, Ty Tx)
    values = torch.bmm(weights, table[source].flatten(1, 2))  # (M, Py Px, K)
    highest, best = values.nan_to_num(-torch.inf).max(dim=2)
    place = (pixel_y[:, :, None] * ids.shape[1] + pixel_x[:, None, :]).flatten(1)
    ids.view(-1)[place] = best.to(torch.uint8)
    if confidence is not None:
        confidence.view(-1)[place] = _to_byte(1 / (values - highest[:, :, None]).exp_().sum(dim=2))
