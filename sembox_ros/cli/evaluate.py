"""`python -m sembox_ros evaluate`: mIoU and AP of a checkpoint on a labeled dataset. Needs no ROS."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

from tqdm import tqdm

from sembox_ros.cli.common import (
    PREDICTOR_OPTIONS,
    add_config_options,
    detection_config,
    load_predictor,
    run_command,
)
from sembox_ros.cli.dataset_arguments import add_dataset_arguments, dataset_options
from sembox_ros.config import DetectionConfig
from sembox_ros.data.datasets import load_dataset
from sembox_ros.data.sample import Dataset, Sample
from sembox_ros.errors import ConfigError
from sembox_ros.evaluation.grading import SceneGrade
from sembox_ros.evaluation.scores import scores_table, sizes_line
from sembox_ros.inference.predictor import Predictor
from sembox_ros.replay.exports import PredictionWriter
from sembox_ros.types import Scene

OPTIONS = (*PREDICTOR_OPTIONS, 'score_threshold', 'nms_iou_threshold', 'max_detections')
SCORE_THRESHOLD = 0.05  # the node's default would cut the curve under which AP is the area


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_dataset_arguments(parser)
    parser.add_argument('--limit', type=int, default=0, help='only the first so many images; 0: all')
    parser.add_argument('--out', type=Path, default=Path('evaluation'), help='folder for metrics.json')
    parser.add_argument(
        '--save-predictions', action='store_true',
        help="also write OUT/predictions/*_predLabelIds.png, which Cityscapes' own evaluation reads",
    )  # fmt: skip
    add_config_options(parser, OPTIONS)
    parser.set_defaults(score_threshold=SCORE_THRESHOLD)


def add_scores(grade: SceneGrade, sample: Sample, scene: Scene) -> None:
    """Count one image, in what both sides know about it."""
    if scene.semantic is not None and sample.semantic is not None:
        grade.add_mask(scene.semantic, sample.semantic)
    if sample.boxes_xyxy is not None and sample.class_ids is not None and sample.is_crowd is not None:
        assert scene.detections is not None
        grade.add_boxes(
            sample.image_id,
            scene.detections,
            gt_boxes_xyxy=sample.boxes_xyxy,
            gt_class_ids=sample.class_ids,
            gt_is_crowd=sample.is_crowd,
        )


def evaluate(
    dataset: Dataset,
    predictor: Predictor,
    grade: SceneGrade,
    *,
    detection: DetectionConfig,
    limit: int,
    writer: PredictionWriter | None,
) -> int:
    """Predict and count image by image; returns how many there were."""
    count = min(limit or len(dataset), len(dataset))
    for index in tqdm(range(count), desc='evaluate', unit='image', disable=None):
        sample = dataset[index]
        [scene] = predictor.predict([sample.image], detection=detection, outputs=('semantic', 'detections'))
        add_scores(grade, sample, scene)
        if writer is not None and scene.semantic is not None:
            writer.write(sample.image_id, scene.semantic)
    return count


def run(options: argparse.Namespace) -> int:
    """Grade the checkpoint, print the table and write metrics.json."""
    if options.limit < 0:
        raise ConfigError(f'--limit: expected 0 (all images) or more, got {options.limit}')
    detection, chosen = detection_config(options), dataset_options(options)
    dataset = load_dataset(options.dataset, chosen)
    predictor = load_predictor(options)
    grade = SceneGrade(predictor.labels, dataset.labels)
    if not grade.has_masks and not grade.has_boxes:
        raise ConfigError(f'the checkpoint cannot be graded on {options.dataset}: {"; ".join(grade.notes)}')
    folder, masks = options.out / 'predictions', predictor.labels.semantic
    writer = PredictionWriter(folder, masks) if options.save_predictions else None
    if not predictor.checkpoint.trained:
        print('the weights are UNTRAINED: the scores say nothing; pass --checkpoint FILE', file=sys.stderr)
    start = time.monotonic()
    count = evaluate(dataset, predictor, grade, detection=detection, limit=options.limit, writer=writer)
    seconds = time.monotonic() - start
    scores = grade.compute()
    metrics = {
        'checkpoint': options.checkpoint or 'bundled',
        'model': predictor.checkpoint.config.name,
        'trained': predictor.checkpoint.trained,
        'dataset': options.dataset,
        'dataset_options': chosen,
        'images': count,
        'masks_graded': grade.masks,
        'images_with_boxes_graded': grade.images,
        **dataclasses.asdict(detection),
        'device': str(predictor.device),
        'engine': predictor.engine.name,
        'precision': predictor.engine.precision,
        **scores.to_dict(),
        'notes': grade.notes,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / 'metrics.json').write_text(json.dumps(metrics, indent=1, allow_nan=False))
    print(scores_table(*scores))
    if scores.boxes is not None:
        print(sizes_line(scores.boxes.to_dict()))
    print(
        f'\n{count} images of {options.dataset} in {seconds:.0f} s; IoU, AP and AP50 in percent, '
        f'AP of boxes with score >= {detection.score_threshold:g}; all numbers in {options.out}/metrics.json'
    )
    for note in grade.notes:
        print(note)
    return 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='evaluate', description=__doc__, add_arguments=add_arguments, run=run)
