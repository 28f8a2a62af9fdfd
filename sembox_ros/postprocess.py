"""From the network's raw tensors to boxes and class ids of one image. Pure functions, thresholds as arguments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sembox_ros.ops.boxes import clip_boxes, decode_boxes
from sembox_ros.ops.nms import select_boxes, top_candidates
from sembox_ros.ops.placement import Placement
from sembox_ros.ops.resize import plan_axis, resize_argmax
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


def decode_semantic(
    semantic_logits: Tensor,
    placement: Placement,
    *,
    sizes_hw: Sequence[tuple[int, int]] = (),
    with_confidence: bool,
    extent: str = 'canvas',
) -> tuple[np.ndarray, np.ndarray | None]:
    """Class ids of one image at its own size.

    Args:
        semantic_logits: (K, h, w) before the softmax, on any device.
        placement: where the image lies on the canvas.
        sizes_hw: what the logits are resized to, one after the other, as the network's `semantic_sizes` says; the last
            one, or (h, w) where there is none, is the size of the canvas, or any size where the image is covered.
        with_confidence: also give the winning class's probability.
        extent: what the logits cover, 'canvas' or 'image'.

    Returns:
        (image height, image width) uint8 class ids and, if asked for, uint8 probability times 255, else None.
    """
    source_hw = tuple(semantic_logits.shape[1:])
    window_hw = placement.scaled_hw if extent == 'canvas' else (source_hw, *sizes_hw)[-1]
    rows, columns = (
        plan_axis(
            source_hw[i], tuple(s[i] for s in sizes_hw), window_hw[i], placement.image_hw[i], semantic_logits.device
        )
        for i in range(2)
    )
    ids, confidence = resize_argmax(semantic_logits, rows, columns, with_confidence=with_confidence)
    return ids.cpu().numpy(), None if confidence is None else confidence.cpu().numpy()
