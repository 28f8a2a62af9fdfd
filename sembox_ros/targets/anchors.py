"""Which anchor learns which box."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.ops.boxes import encode_boxes

NEGATIVE = -1
IGNORED = -2

CROWD_COVER = 0.5  # an anchor that lies in a crowd by this share of its own area is not background

# Anchors of equal size that hold a small box entirely overlap it equally; only rounding tells them apart.
_TIE = 1 - 1e-4

_BOXES_AT_A_TIME = 8  # intermediate results then stay in the processor's cache: twice as fast as all at once


class AnchorTargets(NamedTuple):
    """What each anchor of one image should give.

    Attributes:
        class_ids: (A,) int64, id of the detection label set, `NEGATIVE` (-1) or `IGNORED` (-2).
        regression: (A, 4) float32 dx, dy, dw, dh against the anchor; zero where `class_ids` is negative.
    """

    class_ids: Tensor
    regression: Tensor


@torch.no_grad()
def assign_anchors(
    anchors_xyxy: Tensor,
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    is_crowd: Tensor,
    *,
    positive_iou: float = 0.5,
    negative_iou: float = 0.4,
) -> AnchorTargets:
    """The targets of one image.

    An anchor whose best box overlaps it by `positive_iou` learns that box, one below `negative_iou` learns that
    there is nothing, one in between is ignored: the thresholds of RetinaNet (Lin et al. 2017, section 4.1), which
    the PyTorch port of EfficientDet (zylo117) has too. Besides, every box gets the anchors that overlap it most,
    however little, as in Faster R-CNN (Ren et al. 2015, section 3.1.2) and in google/automl's EfficientDet, whose
    matcher forces one anchor per box (with 0.5 for both thresholds, so that it ignores none). The port does not
    force; this package does, because its small inputs hold boxes under 16 x 16 pixels, and no anchor (1000 square
    pixels at least) overlaps those by half.

    Of two boxes that are best at one anchor, the one whose center is nearer gets it, the smaller one if both are as
    near; a box that loses all its best anchors takes the best free ones. So each box has a positive anchor unless
    every anchor that it overlaps was taken by another. The order of the boxes changes nothing.

    Boxes without area are left out. A crowd box is no target: anchors that lie in it by half of their area, and
    learn no other box, are ignored.

    Args:
        anchors_xyxy: (A, 4) float32 in pixels, of positive size.
        boxes_xyxy: (N, 4) in the same pixels, finite.
        class_ids: (N,) int64 ids of the detection label set.
        is_crowd: (N,) bool.
        positive_iou: overlap from which an anchor learns a box, in 0..1.
        negative_iou: overlap below which it learns that there is none; at most `positive_iou`.

    Raises:
        ConfigError: the thresholds do not fit each other.
        InputError: shapes do not fit or a coordinate is not finite.
    """
    if not 0 <= negative_iou <= positive_iou <= 1 or positive_iou == 0:
        raise ConfigError(
            'positive_iou, negative_iou: expected 0 <= negative_iou <= positive_iou <= 1 and positive_iou above 0, '
            f'got {positive_iou} and {negative_iou}'
        )
    _check_boxes(anchors_xyxy, boxes_xyxy, class_ids, is_crowd)
    anchors, boxes = anchors_xyxy.float(), boxes_xyxy.float()
    assigned = torch.full((len(anchors),), NEGATIVE, dtype=torch.int64, device=anchors.device)
    regression = torch.zeros_like(anchors)

    objects = ~is_crowd & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    crowds = boxes[is_crowd]
    owner = torch.full_like(assigned, -1)
    if objects.any():
        object_boxes, object_classes = _in_fixed_order(boxes[objects], class_ids[objects])
        iou = _overlap(object_boxes, anchors)
        best_iou, best_box = iou.max(dim=0)
        owner = torch.where(best_iou >= positive_iou, best_box, owner)
        _force_best_anchors(owner, iou, object_boxes, anchors)
        assigned[best_iou >= negative_iou] = IGNORED
    if len(crowds):
        assigned[_share_inside(anchors, crowds) >= CROWD_COVER] = IGNORED
    positive = owner >= 0
    if objects.any():
        assigned[positive] = object_classes[owner[positive]]
        regression[positive] = encode_boxes(object_boxes[owner[positive]], anchors[positive])
    return AnchorTargets(assigned, regression)


def _check_boxes(anchors: Tensor, boxes: Tensor, class_ids: Tensor, is_crowd: Tensor) -> None:
    for name, tensor in (('anchors_xyxy', anchors), ('boxes_xyxy', boxes)):
        if tensor.ndim != 2 or tensor.shape[1] != 4:
            raise InputError(f'{name}: expected shape (N, 4), got {tuple(tensor.shape)}')
    for name, tensor, dtype in (('class_ids', class_ids, torch.int64), ('is_crowd', is_crowd, torch.bool)):
        if tensor.shape != (len(boxes),) or tensor.dtype != dtype:
            raise InputError(
                f'{name}: expected ({len(boxes)},) {dtype}, one per box, got {tuple(tensor.shape)} {tensor.dtype}'
            )
    if not boxes.isfinite().all():
        raise InputError('boxes_xyxy: expected finite coordinates, got NaN or infinity; check the annotations')


def _in_fixed_order(boxes: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The boxes by area, then by class and corners: whoever comes first wins a tie, and that is the smaller box."""
    order = torch.arange(len(boxes), device=boxes.device)
    for key in (*boxes.unbind(dim=1), class_ids, _area(boxes)):  # the last sort counts most
        order = order[key[order].argsort(stable=True)]
    return boxes[order], class_ids[order]


def _force_best_anchors(owner: Tensor, iou: Tensor, boxes: Tensor, anchors: Tensor) -> None:
    """Give each box the anchors that overlap it most, in rounds; changes `owner` (A,).

    In each round every waiting box asks for its best anchors. One that gets any is served; the others wait, and
    the anchors given away are out of reach for them. At least one box is served per round.
    """
    box_centers, anchor_centers = (b[:, :2] + b[:, 2:] for b in (boxes, anchors))  # twice the center
    waiting = torch.arange(len(boxes), device=boxes.device)
    while len(waiting):
        best = iou.amax(dim=1, keepdim=True)
        reachable = best[:, 0] > 0
        if not reachable.all():
            waiting, iou, best = waiting[reachable], iou[reachable], best[reachable]
        rows, asked = (iou >= best * _TIE).nonzero(as_tuple=True)
        asking = waiting[rows]
        distance = (box_centers[asking] - anchor_centers[asked]).square().sum(dim=1)
        nearest = distance.new_full((len(anchors),), torch.inf).scatter_reduce(0, asked, distance, 'amin')
        near = distance == nearest[asked]
        first = torch.full_like(owner, len(boxes)).scatter_reduce(0, asked[near], asking[near], 'amin')
        taken = first < len(boxes)
        owner[taken] = first[taken]
        left = torch.isin(waiting, first[taken], invert=True)
        waiting, iou = waiting[left], iou[left]
        iou[:, taken] = 0


def _intersection(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(N, A) common area, one coordinate at a time: pairs of numbers in the last dimension are slow on a CPU."""
    sides = []
    for low, high in ((0, 2), (1, 3)):
        start = torch.maximum(boxes[:, low, None], anchors[:, low].contiguous())
        side = torch.minimum(boxes[:, high, None], anchors[:, high].contiguous()).sub_(start)
        sides.append(side.clamp_(min=0))
    return sides[0].mul_(sides[1])


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _overlap(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(N, A) intersection over union: torchvision's `box_iou`, several times as fast on a CPU."""
    anchor_area = _area(anchors)
    rows = []
    for part in boxes.split(_BOXES_AT_A_TIME):
        inside = _intersection(part, anchors)
        union = (_area(part)[:, None] + anchor_area).sub_(inside)
        rows.append(inside.div_(union))
    return torch.cat(rows)


def _share_inside(anchors: Tensor, crowds: Tensor) -> Tensor:
    """(A,) the largest share of each anchor's area that lies in one of the crowd boxes, 0..1."""
    return _intersection(crowds, anchors).amax(dim=0) / _area(anchors)
