"""From the box head's raw tensors to the boxes of one image."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sembox_ros.ops.boxes import clip_boxes, decode_boxes
from sembox_ros.ops.nms import select_boxes, top_candidates
from sembox_ros.ops.placement import Placement
from sembox_ros.types import Detections


def decode_detections(
    class_logits: Tensor,
    box_regression: Tensor,
    anchors_xyxy: Tensor,
    placement: Placement,
    *,
    score_threshold: float,
    nms_iou_threshold: float,
    max_detections: int,
) -> Detections:
    """Boxes of one image in its own pixels.

    Args:
        class_logits: (A, K) before the sigmoid.
        box_regression: (A, 4) dx, dy, dw, dh.
        anchors_xyxy: (A, 4) float32 in pixels of the canvas.
        placement: where the image lies on the canvas.
        score_threshold: lowest probability kept, 0..1.
        nms_iou_threshold: overlap above which the lower-scored box of a class goes.
        max_detections: most boxes kept.

    Returns:
        Boxes clipped to the image, best first. Boxes in the padding, without area or with non-finite
        coordinates are dropped.
    """
    anchor_ids, class_ids, scores = top_candidates(class_logits, score_threshold)
    boxes = decode_boxes(box_regression[anchor_ids], anchors_xyxy[anchor_ids])
    scale_x, scale_y = placement.scale_xy
    boxes = clip_boxes(boxes * boxes.new_tensor((scale_x, scale_y, scale_x, scale_y)), placement.image_hw)
    usable = torch.isfinite(boxes).all(dim=1) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    boxes, class_ids, scores = select_boxes(
        boxes[usable],
        class_ids[usable],
        scores[usable],
        nms_iou_threshold=nms_iou_threshold,
        max_detections=max_detections,
    )
    return Detections(
        boxes_xyxy=boxes.cpu().numpy().astype(np.float32, copy=False),
        class_ids=class_ids.cpu().numpy(),
        scores=scores.cpu().numpy().astype(np.float32, copy=False),
    )
