"""Grading a network on a dataset, at the size of its images, by the rules of the field."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from sembox_ros.config import InputConfig, ModelConfig
from sembox_ros.data.sample import Sample
from sembox_ros.data.transforms import Batch
from sembox_ros.draw import draw_overlay
from sembox_ros.evaluation.grading import SceneGrade
from sembox_ros.evaluation.scores import GradeScores
from sembox_ros.labels import SceneLabels
from sembox_ros.models.sembox import semantic_sizes
from sembox_ros.ops.anchors import create_anchors
from sembox_ros.postprocess import decode_detections, decode_semantic
from sembox_ros.types import Detections, Scene

SCORE_THRESHOLD = 0.05  # lower boxes hardly move AP and cost most of the time
NMS_IOU_THRESHOLD = 0.5
MAX_DETECTIONS = 100  # of COCO's definition of AP
DRAWN_SCORE = 0.4


class Scores(GradeScores):
    """What a network scored; None where the dataset or the network lacks that part."""

    def headline(self) -> dict[str, float]:
        """The numbers that make a curve: miou, pixel_accuracy, ap, ap50, pq, pq_things, pq_stuff."""
        numbers: dict[str, float] = {}
        if self.semantic:
            numbers |= {'miou': self.semantic.miou, 'pixel_accuracy': self.semantic.pixel_accuracy}
        if self.boxes:
            numbers |= {'ap': self.boxes.ap, 'ap50': self.boxes.ap50}
        if self.panoptic:
            pq = self.panoptic
            numbers |= {'pq': pq.pq, 'pq_things': pq.pq_things, 'pq_stuff': pq.pq_stuff}
        return numbers

    def rank(self, best_by: str) -> float:
        """The number by which checkpoints compare: a metric, or the sum of several; absent ones count 0."""
        numbers = self.headline()
        return float(sum(np.nan_to_num(numbers.get(name, 0.0)) for name in best_by.split('+')))


class Grader:
    """Collects the scores of one validation, and some pictures; those of several processes merge.

    Args:
        pred: label sets of the network.
        gt: label sets of the dataset; classes are the same where their names are.
        examples: how many pictures to keep.
    """

    def __init__(self, pred: SceneLabels, gt: SceneLabels, *, examples: int) -> None:
        self._pred, self._gt, self._examples = pred, gt, examples
        self._grade = SceneGrade(pred, gt)
        self.pictures: list[np.ndarray] = []

    def update(self, sample: Sample, semantic: np.ndarray | None, detections: Detections | None) -> None:
        """Grade one image.

        Args:
            sample: with its ground truth.
            semantic: (H, W) uint8 predicted class ids at the image's size.
            detections: predicted boxes, in pixels of the image; None from a network without a box head.
        """
        if semantic is not None and sample.semantic is not None:
            self._grade.add_mask(semantic, sample.semantic)
        boxes_xyxy, class_ids, is_crowd = sample.boxes_xyxy, sample.class_ids, sample.is_crowd
        if detections is not None and boxes_xyxy is not None and class_ids is not None and is_crowd is not None:
            self._grade.add_boxes(
                sample.image_id, detections, gt_boxes_xyxy=boxes_xyxy, gt_class_ids=class_ids, gt_is_crowd=is_crowd
            )
        if len(self.pictures) < self._examples:
            self.pictures.append(draw_example(sample, semantic, detections, self._pred, self._gt))

    def merge(self, other: Grader) -> None:
        """Take over what another process graded; its pictures stay where they are."""
        self._grade.merge(other._grade)

    def compute(self) -> Scores:
        """The scores of everything so far."""
        return Scores(*self._grade.compute())


def draw_example(
    sample: Sample, semantic: np.ndarray | None, detections: Detections | None, pred: SceneLabels, gt: SceneLabels
) -> np.ndarray:
    """Image, ground truth and prediction side by side, (H, 3 W, 3) uint8 rgb."""
    confident = Detections.empty()
    if detections is not None:
        shown = detections.scores >= DRAWN_SCORE
        confident = Detections(detections.boxes_xyxy[shown], detections.class_ids[shown], detections.scores[shown])
    truth = Detections.empty()
    if sample.boxes_xyxy is not None and sample.class_ids is not None and sample.is_crowd is not None:
        asked = ~sample.is_crowd
        scores = np.ones(int(asked.sum()), np.float32)
        truth = Detections(sample.boxes_xyxy[asked], sample.class_ids[asked], scores)
    size_hw = (sample.image.shape[0], sample.image.shape[1])
    columns = [sample.image]
    for mask, boxes, labels in ((sample.semantic, truth, gt), (semantic, confident, pred)):
        scene = Scene(size_hw, semantic=mask, detections=boxes)
        columns.append(draw_overlay(sample.image, scene, labels, alpha=0.6))
    return np.concatenate(columns, axis=1)


@torch.no_grad()
def validate(
    network: nn.Module,
    batches: Iterable[Batch],
    grader: Grader,
    *,
    model_config: ModelConfig,
    input_config: InputConfig,
    device: torch.device,
) -> None:
    """Run a network over batches with ground truth and give everything to the grader.

    Args:
        network: in evaluation mode, on `device`; gives raw tensors of any float dtype, with no anchors at all where
            it has no box head.
        batches: from `data.transforms.EvalTransform`, with samples and placements.
        grader: collects.
        model_config: for the anchors.
        input_config: for what the semantic output covers.
        device: where the network is.
    """
    anchors: Tensor | None = None
    for batch in batches:
        images = batch.images.to(device, memory_format=torch.channels_last)
        output = network(images)
        if anchors is None:
            size_hw = (images.shape[2], images.shape[3])
            anchors = create_anchors(size_hw, device=device, anchor_scale=model_config.anchor_scale)
        for index, (sample, placement) in enumerate(zip(batch.samples, batch.placements, strict=True)):
            detections = semantic = None
            if output.class_logits.shape[1]:
                detections = decode_detections(
                    output.class_logits[index].float(), output.box_regression[index].float(), anchors, placement,
                    score_threshold=SCORE_THRESHOLD, nms_iou_threshold=NMS_IOU_THRESHOLD,
                    max_detections=MAX_DETECTIONS,
                )  # fmt: skip
            if output.semantic_logits is not None:
                logits = output.semantic_logits[index].float()
                extent = input_config.semantic_extent
                sizes_hw = semantic_sizes(network, logits)
                semantic, _ = decode_semantic(
                    logits, placement, sizes_hw=sizes_hw, with_confidence=False, extent=extent
                )
            grader.update(sample, semantic, detections)
