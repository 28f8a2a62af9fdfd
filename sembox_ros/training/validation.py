"""Grading a network on a dataset, at the size of its images, by the rules of the field."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from sembox_ros.config import DetectionConfig, InputConfig, ModelConfig
from sembox_ros.data.sample import Sample
from sembox_ros.data.transforms import Batch
from sembox_ros.draw import colorize_depth, draw_overlay
from sembox_ros.evaluation.grading import SceneGrade
from sembox_ros.evaluation.scores import GradeScores
from sembox_ros.labels import SceneLabels
from sembox_ros.models.sembox import NetworkOutput, map_sizes
from sembox_ros.postprocess.scene import PARTS, Decoding, decode_scene
from sembox_ros.types import Detections, Scene

# Lower boxes hardly move AP and cost most of the time; 100 boxes belong to COCO's definition of AP.
DETECTION = DetectionConfig(score_threshold=0.05, nms_iou_threshold=0.5, max_detections=100)
MIN_INSTANCE_SCORE = DetectionConfig().score_threshold  # PQ counts every instance that is not there as wrong
WANTED = PARTS - {'confidence'}
DRAWN_SCORE = 0.4


class Scores(GradeScores):
    """What a network scored; None where the dataset or the network lacks that part."""

    def headline(self) -> dict[str, float]:
        """The numbers that make a curve.

        miou, pixel_accuracy; ap, ap50; pq, pq_things, pq_stuff; abs_rel, rmse_m, delta1; motion_miou, moving_iou.
        """
        numbers: dict[str, float] = {}
        if self.semantic:
            numbers |= {'miou': self.semantic.miou, 'pixel_accuracy': self.semantic.pixel_accuracy}
        if self.boxes:
            numbers |= {'ap': self.boxes.ap, 'ap50': self.boxes.ap50}
        if self.panoptic:
            pq = self.panoptic
            numbers |= {'pq': pq.pq, 'pq_things': pq.pq_things, 'pq_stuff': pq.pq_stuff}
        if self.depth:
            numbers |= {'abs_rel': self.depth.abs_rel, 'rmse_m': self.depth.rmse_m, 'delta1': self.depth.delta1}
        if self.motion:
            numbers |= {'motion_miou': self.motion.motion_miou, 'moving_iou': self.motion.moving_iou}
        return numbers

    def rank(self, best_by: str) -> float:
        """The number by which checkpoints compare: a metric, or the sum of several; absent ones count 0."""
        numbers = self.headline()
        return float(sum(np.nan_to_num(numbers.get(name, 0.0)) for name in best_by.split('+')))


def add_scores(grade: SceneGrade, sample: Sample, scene: Scene, gt: SceneLabels) -> None:
    """Count one image, in what both sides know about it.

    Args:
        grade: counts.
        sample: with its ground truth.
        scene: what the network saw in it; parts that it does not give are None.
        gt: label sets of the sample's dataset.
    """
    if scene.semantic is not None and sample.semantic is not None:
        grade.add_mask(scene.semantic, sample.semantic)
    if scene.depth is not None and sample.depth is not None:
        grade.add_depth(scene.depth, sample.depth)
    if scene.motion is not None and sample.motion is not None:
        grade.add_motion(scene.motion, sample.motion)
    boxes_xyxy, class_ids, is_crowd = sample.boxes_xyxy, sample.class_ids, sample.is_crowd
    if scene.detections is not None and boxes_xyxy is not None and class_ids is not None and is_crowd is not None:
        grade.add_boxes(
            sample.image_id, scene.detections, gt_boxes_xyxy=boxes_xyxy, gt_class_ids=class_ids, gt_is_crowd=is_crowd
        )
    truth = sample.compose_panoptic(gt) if grade.has_panoptic and scene.panoptic is not None else None
    if scene.panoptic is not None and truth is not None:
        grade.add_panoptic(scene.panoptic, *truth)


class Grader:
    """Collects the scores of one validation, and some pictures; those of several processes merge.

    Args:
        pred: label sets of the network.
        gt: label sets of the dataset; classes are the same where their names are.
        examples: how many pictures to keep.

    Attributes:
        labels: label sets of the network.
        pictures: image, ground truth and prediction side by side.
    """

    def __init__(self, pred: SceneLabels, gt: SceneLabels, *, examples: int) -> None:
        self.labels, self._gt, self._examples = pred, gt, examples
        self._grade = SceneGrade(pred, gt)
        self.pictures: list[np.ndarray] = []

    def update(self, sample: Sample, scene: Scene) -> None:
        """Grade one image.

        Args:
            sample: with its ground truth.
            scene: what the network saw in it; parts that it does not give are None.
        """
        add_scores(self._grade, sample, scene, self._gt)
        if len(self.pictures) < self._examples:
            self.pictures.append(draw_example(sample, scene, self.labels, self._gt))

    def merge(self, other: Grader) -> None:
        """Take over what another process graded; its pictures stay where they are."""
        self._grade.merge(other._grade)

    def compute(self) -> Scores:
        """The scores of everything so far."""
        return Scores(*self._grade.compute())


def draw_example(sample: Sample, scene: Scene, pred: SceneLabels, gt: SceneLabels) -> np.ndarray:
    """Image, ground truth and prediction side by side, (H, 3 W, 3) uint8 rgb; (2 H, 3 W, 3) with depth below."""
    truth = Detections.empty()
    if sample.boxes_xyxy is not None and sample.class_ids is not None and sample.is_crowd is not None:
        asked = ~sample.is_crowd
        scores = np.ones(int(asked.sum()), np.float32)
        truth = Detections(sample.boxes_xyxy[asked], sample.class_ids[asked], scores)
    confident = None if scene.detections is None else scene.detections.above(DRAWN_SCORE)
    moves = None if sample.motion is None else sample.motion == 1
    columns = [sample.image]
    for shown, labels in (
        (Scene(scene.size_hw, semantic=sample.semantic, detections=truth, motion=moves), gt),
        (Scene(scene.size_hw, semantic=scene.semantic, detections=confident, motion=scene.motion), pred),
    ):
        columns.append(draw_overlay(sample.image, shown, labels, alpha=0.6))
    rows = [columns]
    if sample.depth is not None and scene.depth is not None:
        rows.append([np.full_like(sample.image, 255), *map(colorize_depth, (sample.depth, scene.depth))])
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


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
        network: in evaluation mode, on `device`; gives raw tensors of any float dtype.
        batches: from `data.transforms.EvalTransform`, with samples and placements.
        grader: collects.
        model_config: for anchors and grids.
        input_config: for what the semantic output covers.
        device: where the network is.
    """
    decoding: Decoding | None = None
    for batch in batches:
        images = batch.images.to(device, memory_format=torch.channels_last)
        output = NetworkOutput._make(None if part is None else part.float() for part in network(images))
        if decoding is None:
            decoding = Decoding.of_canvas(
                (images.shape[2], images.shape[3]),
                model=model_config,
                labels=grader.labels,
                semantic_sizes=map_sizes(network, output),
                semantic_extent=input_config.semantic_extent,
                device=device,
            )
        for index, (sample, placement) in enumerate(zip(batch.samples, batch.placements, strict=True)):
            scene = decode_scene(
                output, index, placement, decoding,
                detection=DETECTION, wanted=WANTED, min_instance_score=MIN_INSTANCE_SCORE,
            )  # fmt: skip
            grader.update(sample, scene)
