"""Instances from masks and semantic logits: who gets which pixel where they overlap and contradict each other.

All of it happens at the size of the logits; `ops.resize.resize_argmax` brings the winner of each place to the image's
size, so that edges are as smooth as those of the semantic mask and no logits of the image's size arise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sembox_ros.labels import SceneLabels
from sembox_ros.ops.placement import Placement
from sembox_ros.postprocess.instances import Instances
from sembox_ros.postprocess.semantic import decode_semantic

MAX_CHANNELS = 255  # that compete for a pixel; see `resize_argmax`
_NEVER = -1e3  # a logit that never wins, and that resizing does not turn into NaN


def fuse_efficientps(
    found: Instances,
    semantic_logits: Tensor,
    placement: Placement,
    labels: SceneLabels,
    *,
    sizes_hw: Sequence[tuple[int, int]],
    min_score: float = 0.0,
    max_overlap: float = 0.5,
) -> np.ndarray:
    """EfficientPS's panoptic fusion (Mohan and Valada 2020, section 3.4).

    An instance has two logits: A of its mask, and B of the semantic head for its class inside its box, zero outside.
    Fused they are (sigmoid(A) + sigmoid(B)) (A + B): large where both agree, near zero where they do not. These compete
    with the semantic logits of stuff for each pixel.

    Two departures. In the paper masks end at their boxes and A is zero outside; ours cover the image, and an instance
    gets nothing outside its box, where it would win wherever all of stuff is below zero. And what no instance gets
    keeps its class in the mask, which is stuff or becomes void (`compose_panoptic`); the paper fills it with the
    semantic head's stuff.

    Args:
        found: masks, best first.
        semantic_logits: (K, h, w) before the softmax; they cover the canvas.
        placement: where the image lies on the canvas.
        labels: link the classes of both; instances of other classes get nothing.
        sizes_hw: what the logits are resized to, one after the other; the last one is the size of the canvas.
        min_score: instances below it get nothing.
        max_overlap: an instance gets nothing if better ones have more than this share of its mask.

    Returns:
        (H, W) uint16, `detections.ids`; 0 = no instance.
    """
    things = set(labels.thing_links.values())
    stuff = [i for i in range(len(semantic_logits)) if i not in things]
    rows = _select(found, labels, min_score, max_overlap, MAX_CHANNELS - len(stuff))
    masks = found.mask_logits[rows]
    semantic = semantic_logits.float()
    if semantic.shape[1:] != masks.shape[1:]:
        semantic = F.interpolate(semantic[None], size=masks.shape[1:], mode='bilinear', align_corners=False)[0]
    inside = _find_insides(found.detections.boxes_xyxy[rows], placement, masks)
    classes = semantic[[labels.thing_links[c] for c in found.detections.class_ids[rows].tolist()]]
    fused = torch.where(inside, (masks.sigmoid() + classes.sigmoid()) * (masks + classes), _NEVER)
    numbers = np.concatenate((np.zeros(len(stuff), np.uint16), found.detections.ids[rows]))
    return _paint(torch.cat((semantic[stuff], fused)), numbers, placement, sizes_hw)


def fuse_heuristic(
    found: Instances,
    semantic_logits: Tensor,  # noqa: ARG001, every fusion is called alike
    placement: Placement,
    labels: SceneLabels,
    *,
    sizes_hw: Sequence[tuple[int, int]],
    min_score: float = 0.0,
    max_overlap: float = 0.5,
) -> np.ndarray:
    """The merge of Panoptic FPN (Kirillov et al. 2019): masks by score, whatever the semantic head says.

    Arguments and result are those of `fuse_efficientps`; the semantic logits are not looked at. Of a pixel in several
    masks the best one has it.
    """
    rows = _select(found, labels, min_score, max_overlap, MAX_CHANNELS - 1)
    nobody = found.mask_logits.new_zeros((1, *found.mask_logits.shape[1:]))
    channels, best = [nobody], torch.full_like(nobody, _NEVER)
    for mask in found.mask_logits[rows].split(1):
        # Positive where the mask is and no better one; the edge between two masks is where the better one ends.
        channels.append(torch.minimum(mask, -best))
        best = torch.maximum(best, mask)
    numbers = np.concatenate((np.zeros(1, np.uint16), found.detections.ids[rows]))
    return _paint(torch.cat(channels), numbers, placement, sizes_hw)


# By name in `DetectionConfig.fusion`.
FUSIONS: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType(
    {'efficientps': fuse_efficientps, 'heuristic': fuse_heuristic}
)


def _select(found: Instances, labels: SceneLabels, min_score: float, max_overlap: float, count: int) -> list[int]:
    """Rows of the instances that take part, best first: sure enough, of a linked class, not in better ones' masks."""
    detections = found.detections
    sure = (detections.scores >= min_score) & np.isin(detections.class_ids, list(labels.thing_links))
    masks = found.mask_logits > 0
    areas = masks.sum(dim=(1, 2)).tolist()
    taken = torch.zeros(masks.shape[1:], dtype=torch.bool, device=masks.device)
    rows: list[int] = []
    for row in sure.nonzero()[0].tolist():
        if len(rows) == count:
            break
        if int((masks[row] & taken).sum()) <= max_overlap * areas[row]:
            rows.append(row)
            taken |= masks[row]
    return rows


def _find_insides(boxes_xyxy: np.ndarray, placement: Placement, masks: Tensor) -> Tensor:
    """(N, h, w) bool: places of the masks that are in the box or next to it.

    One more on each side, so that the edge between a place inside and one outside is the mask's own.
    """
    boxes = torch.from_numpy(boxes_xyxy).to(masks.device)
    spans = []
    for axis in range(2):  # down, across
        length, scale = masks.shape[axis + 1], placement.scale_xy[1 - axis]
        step = placement.canvas_hw[axis] / length * scale  # pixels of the image per place
        middles = (torch.arange(length, device=masks.device) + 0.5) * step
        low, high = boxes[:, 1 - axis, None] - step, boxes[:, 3 - axis, None] + step
        spans.append((middles > low) & (middles < high))
    return spans[0][:, :, None] & spans[1][:, None, :]


def _paint(
    channels: Tensor, numbers: np.ndarray, placement: Placement, sizes_hw: Sequence[tuple[int, int]]
) -> np.ndarray:
    """(H, W) uint16: the number of the channel that wins, resized to the image."""
    winners, _ = decode_semantic(channels, placement, sizes_hw=sizes_hw, with_confidence=False)
    painted: np.ndarray = numbers.astype(np.uint16)[winners]
    return painted
