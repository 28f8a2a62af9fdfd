"""From the instance head's raw tensors to the masks of one image (SOLOv2, Wang et al. 2020, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sembox_ros.ops.boxes import clip_boxes
from sembox_ros.ops.grids import Grids, evaluate_kernels
from sembox_ros.ops.nms import matrix_nms
from sembox_ros.ops.placement import Placement
from sembox_ros.types import Detections

_LIMIT = 50.0  # what a logit that is no number becomes, negative, or an infinite one


class Instances(NamedTuple):
    """Masks of one image, best score first.

    Attributes:
        mask_logits: (N, h, w) float32, inside where positive; they cover the canvas.
        detections: their boxes, in pixels of the image, classes and scores.
    """

    mask_logits: Tensor
    detections: Detections

    def above(self, score_threshold: float) -> Instances:
        """Those with at least this score."""
        detections = self.detections.above(score_threshold)
        return Instances(self.mask_logits[: len(detections)], detections)


def decode_instances(
    category_logits: Tensor,
    mask_kernels: Tensor,
    mask_features: Tensor,
    grids: Grids,
    placement: Placement,
    *,
    score_threshold: float,
    max_detections: int,
    max_candidates: int = 500,
) -> Instances:
    """Masks of one image and the boxes around them.

    A cell's score is its category's times the mean probability inside its mask, and falls with the overlap with better
    masks. The paper puts a lower threshold before the masks; since scores only fall, one threshold gives the same.

    Args:
        category_logits: (G, K) before the sigmoid; NaN counts as nothing.
        mask_kernels: (G, E) of each cell.
        mask_features: (E, h, w) that cover the canvas.
        grids: the cells.
        placement: where the image lies on the canvas.
        score_threshold: lowest score kept, 0..1.
        max_detections: most masks kept.
        max_candidates: most cells whose mask is computed, by category score.

    Returns:
        Instances whose mask has pixels in the image.
    """
    cells, class_ids, scores = _find_cells(category_logits, grids.shapes, score_threshold, max_candidates)
    logits = evaluate_kernels(mask_kernels[cells], cells, mask_features, grids)
    logits.nan_to_num_(nan=-_LIMIT, posinf=_LIMIT, neginf=-_LIMIT)
    height, width = (
        math.ceil(scaled * size / canvas)
        for scaled, size, canvas in zip(placement.scaled_hw, logits.shape[1:], placement.canvas_hw, strict=True)
    )
    inside = logits[:, :height, :width].flatten(1)  # without the padding
    masks = inside > 0
    weights = masks.float()  # sums of bool take several times as long
    areas = weights.sum(dim=1)
    maskness = torch.linalg.vecdot(inside.sigmoid(), weights) / areas.clamp(min=1)
    scores = scores * maskness
    order = scores.argsort(descending=True, stable=True)
    order = order[areas[order] > 0]
    scores = matrix_nms(masks[order], class_ids[order], scores[order])
    best = scores.argsort(descending=True, stable=True)[:max_detections]
    best = best[scores[best] >= score_threshold]
    kept = logits[order[best]]
    boxes = _bound_masks(kept, placement, (height, width))
    return Instances(
        kept,
        Detections(
            boxes_xyxy=boxes.cpu().numpy().astype(np.float32, copy=False),
            class_ids=class_ids[order[best]].cpu().numpy(),
            scores=scores[best].cpu().numpy().astype(np.float32, copy=False),
        ),
    )


def _find_cells(
    category_logits: Tensor, shapes: Sequence[tuple[int, int]], score_threshold: float, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Cells (M,), classes (M,) and scores (M,) that reach the threshold and are no less than their neighbours'.

    Of neighbours only the best one of 2 x 2 cells is kept (the paper's code calls it points NMS).
    """
    logits = category_logits.float().nan_to_num(nan=-torch.inf, neginf=-torch.inf)
    peaks = []
    for level, (rows, columns) in zip(logits.split([r * c for r, c in shapes]), shapes, strict=True):
        heat = level.T.reshape(1, -1, rows, columns)
        # The pool of 2 x 2 cells above and to the left of each, itself among them.
        best = F.max_pool2d(heat, 2, stride=1, padding=1)[..., :-1, :-1]
        peaks.append((heat == best)[0].flatten(1).T)
    scores = torch.where(torch.cat(peaks), logits.sigmoid(), 0).flatten()
    scores, places = scores.topk(min(count, len(scores)))
    kept = (scores >= score_threshold) & (scores > 0)
    places = places[kept]
    classes = logits.shape[1]
    return places // classes, places % classes, scores[kept]


def _bound_masks(logits: Tensor, placement: Placement, inside_hw: tuple[int, int]) -> Tensor:
    """Boxes (N, 4) in pixels of the image, around where the logits (N, h, w), resized, are positive.

    A pixel of the logits is several of the image, so edges are taken where the line through two of them crosses zero.
    """
    window = logits[:, : inside_hw[0], : inside_hw[1]]
    left, right = _bound_profiles(window.amax(dim=1))
    top, bottom = _bound_profiles(window.amax(dim=2))
    # From pixels of the logits to those of the canvas, and on to those of the image.
    scale_x, scale_y = (
        size / logits_size * scale
        for size, logits_size, scale in zip(
            placement.canvas_hw[::-1], (logits.shape[2], logits.shape[1]), placement.scale_xy, strict=True
        )
    )
    boxes = torch.stack((left * scale_x, top * scale_y, right * scale_x, bottom * scale_y), dim=1)
    return clip_boxes(boxes, placement.image_hw)


def _bound_profiles(profiles: Tensor) -> tuple[Tensor, Tensor]:
    """First and last zero crossings (N,) of profiles (N, L) that are positive somewhere; 0 and L at the ends."""
    length = profiles.shape[1]
    # Beyond the ends as far below zero as the end is above: crossings at 0 and L.
    padded = torch.cat((-profiles[:, :1], profiles, -profiles[:, -1:]), dim=1)
    positive = (profiles > 0).to(torch.uint8)
    first = positive.argmax(dim=1, keepdim=True)
    last = length - 1 - positive.flip(1).argmax(dim=1, keepdim=True)

    def crossing(inside: Tensor, step: int) -> Tensor:
        here, beyond = padded.gather(1, inside + 1), padded.gather(1, inside + 1 + step)
        return (inside + 0.5 + step * here / (here - beyond))[:, 0]

    return crossing(first, -1), crossing(last, 1)
