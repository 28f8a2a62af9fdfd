"""`python -m sembox_ros evaluate`: mIoU, AP, PQ, depth and motion of a checkpoint on a dataset. Needs no ROS."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

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
from sembox_ros.data.datasets import load_dataset, part_options
from sembox_ros.data.sample import Dataset
from sembox_ros.errors import ConfigError
from sembox_ros.evaluation.grading import SceneGrade
from sembox_ros.evaluation.scores import (
    GradeScores,
    depth_line,
    fusions_table,
    motion_line,
    scores_table,
    sizes_line,
)
from sembox_ros.inference.predictor import Predictor
from sembox_ros.label_ids import has_label_ids
from sembox_ros.panoptic_files import PanopticWriter
from sembox_ros.postprocess.fusion import FUSIONS
from sembox_ros.replay.exports import PredictionWriter
from sembox_ros.training.validation import add_scores
from sembox_ros.types import Scene

OPTIONS = (*PREDICTOR_OPTIONS, 'score_threshold', 'nms_iou_threshold', 'max_detections', 'fusion')
SCORE_THRESHOLD = 0.05  # the node's default would cut the curve under which AP is the area


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_dataset_arguments(parser)
    parser.add_argument('--limit', type=int, default=0, help='only the first so many images; 0: all')
    parser.add_argument('--out', type=Path, default=Path('evaluation'), help='folder for metrics.json')
    parser.add_argument(
        '--save-predictions', action='store_true',
        help="also write OUT/predictions/*_predLabelIds.png, which Cityscapes' own evaluation reads, and in "
        "OUT/panoptic/ scenes in COCO's format, which its panoptic evaluation reads",
    )  # fmt: skip
    parser.add_argument(
        '--min-instance-score', type=float, default=DetectionConfig().score_threshold,
        help='detections below it get no pixels: AP wants them, PQ counts each as wrong',
    )  # fmt: skip
    parser.add_argument(
        '--compare-fusions', action='store_true', help='grade every fusion that the network can do, one after the other'
    )
    add_config_options(parser, OPTIONS)
    parser.set_defaults(score_threshold=SCORE_THRESHOLD)


class Writers:
    """Writes what --save-predictions asks for: masks under Cityscapes' ids, and panoptic scenes.

    They have folders of their own, because Cityscapes' evaluation of masks takes every PNG below its folder for one.

    Args:
        out: for the folders predictions/ and panoptic/.
        predictor: gives the scenes.
        name: of the panoptic files.

    Raises:
        ConfigError: the network gives neither.
    """

    def __init__(self, out: Path, predictor: Predictor, *, name: str) -> None:
        labels = predictor.labels
        self._panoptic: PanopticWriter | None = None
        self._masks: PredictionWriter | None = None
        if labels.semantic is not None and labels.has_instances and predictor.checkpoint.config.finds_objects:
            self._panoptic = PanopticWriter(out / 'panoptic', labels.semantic, name=name)
        if self._panoptic is None or (labels.semantic is not None and has_label_ids(labels.semantic)):
            self._masks = PredictionWriter(out / 'predictions', labels.semantic)

    def write(self, image_id: str, scene: Scene) -> None:
        """Write one image's files."""
        if self._masks is not None and scene.semantic is not None:
            self._masks.write(image_id, scene.semantic)
        if self._panoptic is not None and scene.panoptic is not None:
            self._panoptic.add(image_id, scene.panoptic)

    def finish(self) -> None:
        """Write the table of the panoptic files."""
        if self._panoptic is not None:
            self._panoptic.finish()


def evaluate(
    dataset: Dataset,
    predictor: Predictor,
    grade: SceneGrade,
    *,
    detection: DetectionConfig,
    min_instance_score: float,
    limit: int,
    writers: Writers | None = None,
) -> int:
    """Predict and count image by image; returns how many there were."""
    outputs = {'semantic', 'detections', 'depth', 'motion'}
    outputs |= {'panoptic'} if grade.has_panoptic or writers is not None else set()
    predict = partial(predictor.predict, detection=detection, outputs=outputs, min_instance_score=min_instance_score)
    count = min(limit or len(dataset), len(dataset))
    for index in tqdm(range(count), desc='evaluate', unit='image', disable=None):
        sample = dataset[index]
        # What the dataset says in place of flow that would be measured: its images need not be in a row.
        flows = None if sample.flow is None else [sample.flow]
        [scene] = predict([sample.image], flows=flows)
        add_scores(grade, sample, scene, dataset.labels)
        if writers is not None:
            writers.write(sample.image_id, scene)
    if writers is not None:
        writers.finish()
    return count


def list_fusions(predictor: Predictor) -> list[str]:
    """What `DetectionConfig.fusion` may be for this network, auto aside."""
    model = predictor.checkpoint.config
    return [*(['boxes'] if model.box_head else []), *(FUSIONS if model.instance_channels else [])]


def load_truth(name: str, predictor: Predictor, chosen: Mapping[str, Any]) -> Dataset:
    """The dataset with what the network takes and, where it knows it, what the network says; `chosen` wins.

    Raises:
        ConfigError: unknown options, or the dataset never has what the network takes.
        DatasetError: its files are missing or damaged.
    """
    model = predictor.checkpoint.config
    useful = ['instances', *(task for task in model.tasks if task != 'semantic')]
    needed = [part for part in model.inputs if part != 'image']
    return load_dataset(name, {**part_options(name, needed=needed, useful=useful), **chosen})


def run(options: argparse.Namespace) -> int:
    """Grade the checkpoint, print the tables and write metrics.json."""
    if options.limit < 0:
        raise ConfigError(f'--limit: expected 0 (all images) or more, got {options.limit}')
    if not 0 <= options.min_instance_score <= 1:
        raise ConfigError(f'--min-instance-score: expected 0..1, got {options.min_instance_score}')
    detection, chosen = detection_config(options), dataset_options(options)
    predictor = load_predictor(options)
    dataset = load_truth(options.dataset, predictor, chosen)
    detection = dataclasses.replace(detection, fusion=predictor.choose_fusion(detection))
    grade = SceneGrade(predictor.labels, dataset.labels)
    if not (grade.has_masks or grade.has_boxes or {'depth', 'motion'} & set(predictor.checkpoint.config.tasks)):
        raise ConfigError(f'the checkpoint cannot be graded on {options.dataset}: {"; ".join(grade.notes)}')
    writers = None
    if options.save_predictions:
        # With --split val, the name under which Cityscapes' evaluation looks for them.
        name = '_'.join([options.dataset, 'panoptic', *([options.split] if options.split else [])])
        writers = Writers(options.out, predictor, name=name)
    if not predictor.checkpoint.trained:
        print('the weights are UNTRAINED: the scores say nothing; pass --checkpoint FILE', file=sys.stderr)
    least = options.min_instance_score
    grade_with = partial(evaluate, dataset, predictor, min_instance_score=least, limit=options.limit)
    start = time.monotonic()
    count = grade_with(grade, detection=detection, writers=writers)
    fusions = {detection.fusion: grade.compute()}
    notes = list(grade.notes)
    if not predictor.checkpoint.config.finds_objects:
        notes.append('no AP, no PQ: the network finds no objects')
    others = [name for name in list_fusions(predictor) if name not in fusions] if options.compare_fusions else []
    for name in others:
        other = SceneGrade(predictor.labels, dataset.labels)
        grade_with(other, detection=dataclasses.replace(detection, fusion=name))
        fusions[name] = other.compute()
    seconds = time.monotonic() - start
    options.out.mkdir(parents=True, exist_ok=True)
    metrics = {
        **_circumstances(options, predictor),
        'dataset_options': chosen,
        'images': count,
        **_counts(grade),
        **dataclasses.asdict(detection),
        **fusions[detection.fusion].to_dict(),
        'fusions': {name: scores.to_dict() for name, scores in fusions.items()},
        'notes': notes,
    }
    (options.out / 'metrics.json').write_text(json.dumps(metrics, indent=1, allow_nan=False))
    _print_scores(fusions)
    limits = _limits(fusions[detection.fusion], detection.score_threshold, options.min_instance_score)
    print(
        f'\n{count} images of {options.dataset} in {seconds:.0f} s; all in percent{limits}; '
        f'all numbers in {options.out}/metrics.json'
    )
    for note in notes:
        print(note)
    return 0


def _circumstances(options: argparse.Namespace, predictor: Predictor) -> dict[str, Any]:
    """What metrics.json says about the network and the dataset."""
    return {
        'checkpoint': options.checkpoint or 'bundled',
        'model': predictor.checkpoint.config.name,
        'trained': predictor.checkpoint.trained,
        'dataset': options.dataset,
        'device': str(predictor.device),
        'engine': predictor.engine.name,
        'precision': predictor.engine.precision,
        'min_instance_score': options.min_instance_score,
    }


def _counts(grade: SceneGrade) -> dict[str, int]:
    """What metrics.json says about how much was graded of each part."""
    return {
        'masks_graded': grade.masks,
        'images_with_boxes_graded': grade.images,
        'panoptic_scenes_graded': grade.scenes,
        'depth_maps_graded': grade.depths,
        'motion_masks_graded': grade.motions,
    }


def _print_scores(fusions: Mapping[str, GradeScores]) -> None:
    """The scores of the first one, and a line for each if there are more."""
    scores = next(iter(fusions.values()))
    if scores.semantic or scores.boxes or scores.panoptic:
        print(scores_table(scores.semantic, scores.boxes, scores.panoptic))
    if scores.boxes is not None:
        print(sizes_line(scores.boxes.to_dict()))
    if scores.depth is not None:
        print(depth_line(scores.depth))
    if scores.motion is not None:
        print(motion_line(scores.motion))
    if len(fusions) > 1:
        print(f'\n{fusions_table(fusions)}')


def _limits(scores: GradeScores, score_threshold: float, min_instance_score: float) -> str:
    """Which boxes and instances counted, in words."""
    boxes = f', AP of boxes with score >= {score_threshold:g}' if scores.boxes is not None else ''
    instances = f', PQ of instances with score >= {min_instance_score:g}' if scores.panoptic is not None else ''
    return boxes + instances


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='evaluate', description=__doc__, add_arguments=add_arguments, run=run)
