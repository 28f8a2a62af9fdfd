"""From scored anchors or masks to those that stay."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms

CANDIDATES = 1000  # best (anchor, class) pairs that enter NMS


def select_boxes(
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    scores: Tensor,
    *,
    nms_iou_threshold: float,
    max_detections: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Class-wise non-maximum suppression: boxes of different classes never suppress each other.

    Args:
        boxes_xyxy: (N, 4) float32.
        class_ids: (N,) int64.
        scores: (N,) float32 in 0..1.
        nms_iou_threshold: overlap above which the lower score goes.
        max_detections: at most this many remain.

    Returns:
        The remaining (boxes_xyxy, class_ids, scores), best first.
    """
    keep = batched_nms(boxes_xyxy, scores, class_ids, nms_iou_threshold)[:max_detections]
    return boxes_xyxy[keep], class_ids[keep], scores[keep]


def top_candidates(class_logits: Tensor, score_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The best (anchor, class) pairs of one image whose score reaches the threshold.

    The comparison happens on logits, so that the sigmoid runs on `CANDIDATES` numbers and not on all A x K.

    Args:
        class_logits: (A, K) before the sigmoid; NaN counts as no detection.
        score_threshold: probability 0..1.

    Returns:
        anchor indices (N,), class ids (N,) int64, scores (N,) float32; N <= CANDIDATES, best first.
    """
    classes = class_logits.shape[1]
    count = min(CANDIDATES, class_logits.numel())
    anchors = torch.arange(class_logits.shape[0], device=class_logits.device)
    if class_logits.shape[0] > count:
        # A cheap first cut: no pair can be among the best `count` unless its anchor's best class is.
        best = class_logits.amax(dim=1)
        if best.isnan().any():  # rare, and costs a pass over all logits
            best = _without_nan(class_logits).amax(dim=1)
        anchors = best.topk(count, sorted=False).indices
    logits, order = _without_nan(class_logits[anchors]).reshape(-1).topk(count)
    anchors, class_ids = anchors[order // classes], order % classes
    scores = logits.float().sigmoid()
    keep = (scores >= score_threshold) & (logits > -torch.inf)
    return anchors[keep], class_ids[keep], scores[keep]


def _without_nan(logits: Tensor) -> Tensor:
    """NaN becomes minus infinity, the logit of an impossible class."""
    return torch.nan_to_num(logits, nan=-torch.inf, neginf=-torch.inf)


def matrix_nms(masks: Tensor, class_ids: Tensor, scores: Tensor, *, sigma: float = 2.0) -> Tensor:
    """Matrix NMS (SOLOv2, Wang et al. 2020, section 3.3): scores decay with the overlap with better masks of the class.

    A mask that is itself a copy of a better one makes others decay less (the compensation in the paper's equation 5).

    Args:
        masks: (N, P) bool, best score first.
        class_ids: (N,) int64; masks of different classes do not meet.
        scores: (N,) float32, falling.
        sigma: of the Gaussian kernel; larger decays faster.

    Returns:
        (N,) float32 scores after the decay, none higher than before.
    """
    weights = masks.float()  # sums of bool take several times as long
    areas = weights.sum(dim=1)
    # Where two masks overlap they share pixels that belong to at least two: a small part of the image.
    shared = weights.index_select(1, (weights.sum(dim=0) > 1).nonzero()[:, 0])
    intersections = shared @ shared.T
    unions = (areas[:, None] + areas - intersections).clamp(min=1)
    # Row i, column j: i is the better one.
    ious = torch.where(class_ids[:, None] == class_ids, intersections / unions, 0).triu(diagonal=1)
    if not len(ious):
        return scores
    compensation = ious.amax(dim=0)
    decay = (sigma * (compensation[:, None].square() - ious.square())).exp()
    return scores * decay.amin(dim=0)  # at most 1: nothing compensates for the best one
