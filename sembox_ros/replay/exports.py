"""What a replay saw as files for the official evaluations: Cityscapes' PNG, COCO's json and panoptic format."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.evaluation.coco_ap import to_xywh
from sembox_ros.label_ids import has_label_ids, label_id_table
from sembox_ros.labels import LabelSet, SceneLabels
from sembox_ros.panoptic_files import PanopticWriter
from sembox_ros.replay.grading import compose_scene
from sembox_ros.replay.media import write_image
from sembox_ros.replay.parts import FrameRecord
from sembox_ros.replay.truth import Truth, TruthSource
from sembox_ros.types import Detections, Scene

MAX_FRAME = 10**6  # frame numbers of Cityscapes have six digits


class PredictionWriter:
    """Writes masks under Cityscapes' ids and file names, for cityscapesScripts.

    Args:
        folder: for the files; one mask of each image in it is what the official evaluation expects.
        labels: label sets of the masks.

    Raises:
        ConfigError: the masks do not have Cityscapes' classes.
    """

    def __init__(self, folder: Path, labels: LabelSet | None) -> None:
        if labels is None:
            raise ConfigError('the network only detects, it has no masks to save')
        self._folder, self._table = folder, label_id_table(labels)

    def write(self, image_id: str, semantic: np.ndarray, *, suffix: str = 'predLabelIds') -> None:
        """Write one mask, (H, W) uint8 ids of the label set.

        Raises:
            InputError: the image's name is none for a file, or the file cannot be written.
        """
        if Path(image_id).name != image_id:
            raise InputError(f"image id '{image_id}' cannot be the name of a file")
        write_image(self._folder / f'{image_id}_{suffix}.png', self._table[semantic])


class Exporter:
    """Writes what `masks`, `coco` and `panoptic` ask for, and the truth beside it where there is any.

    `masks/` holds *_predLabelIds.png, and `ground_truth/` *_gtFine_labelIds.png of the same frames if the truth has
    all of Cityscapes' classes; `coco/` has detections.json in COCO's results format, and ground_truth.json. Category
    ids are class id + 1. `panoptic/` has predictions.json with its folder of PNG files, see `PanopticWriter`, and
    ground_truth.json if the truth has the network's classes; where there is such truth, of the frames that it knows.

    Args:
        folder: of the replay.
        labels: label sets of the network.
        truth: what is known of the images.
        save: which of `masks`, `coco` and `panoptic` are wanted.

    Raises:
        ConfigError: the network lacks Cityscapes' classes for `masks`, or instances for `panoptic`.
    """

    def __init__(self, folder: Path, labels: SceneLabels, truth: TruthSource | None, save: frozenset[str]) -> None:
        self._folder, self._labels, self._truth = folder, labels, truth
        self._masks = PredictionWriter(folder / 'masks', labels.semantic) if 'masks' in save else None
        self._truth_masks: PredictionWriter | None = None
        known = None if truth is None else truth.labels.semantic
        if self._masks is not None and known is not None and has_label_ids(known):
            self._truth_masks = PredictionWriter(folder / 'ground_truth', known)
        self._panoptic = _create_panoptic_writer(folder, labels, 'predictions') if 'panoptic' in save else None
        self._truth_panoptic: PanopticWriter | None = None
        if self._panoptic is not None and truth is not None and truth.labels.semantic_names == labels.semantic_names:
            self._truth_panoptic = _create_panoptic_writer(folder, truth.labels, 'ground_truth')
        self._with_coco = 'coco' in save
        self._images: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []
        self._known: list[dict[str, Any]] = []

    def add(self, record: FrameRecord, scene: Scene | None) -> None:
        """Take one frame; skipped ones are in no file.

        Raises:
            InputError: a file cannot be written.
        """
        if scene is None or (self._masks is None and self._panoptic is None and not self._with_coco):
            return
        truth = self._truth.find(record.camera, record.stamp_ns) if self._truth is not None else None
        if self._masks is not None and scene.semantic is not None:
            name = mask_name(record, truth)
            self._masks.write(name, scene.semantic)
            if self._truth_masks is not None and truth is not None and truth.semantic is not None:
                self._truth_masks.write(name, truth.semantic, suffix='gtFine_labelIds')
        if self._panoptic is not None:
            self._add_panoptic(self._panoptic, mask_name(record, truth), scene, truth)
        if self._with_coco:
            self._add_boxes(record, scene, truth)

    def finish(self) -> None:
        """Write the json files.

        Raises:
            InputError: a file cannot be written.
        """
        for writer in (self._panoptic, self._truth_panoptic):
            if writer is not None:
                writer.finish()
        if not self._with_coco:
            return
        folder = self._folder / 'coco'
        folder.mkdir(exist_ok=True)
        (folder / 'detections.json').write_text(json.dumps(self._found))
        if self._truth is not None:
            names = self._truth.labels.detection.names
            categories = [{'id': number, 'name': name} for number, name in enumerate(names, 1)]
            content = {'images': self._images, 'annotations': self._known, 'categories': categories}
            (folder / 'ground_truth.json').write_text(json.dumps(content))

    def _add_panoptic(self, writer: PanopticWriter, name: str, scene: Scene, truth: Truth | None) -> None:
        pred = compose_scene(scene, self._labels)
        assert pred is not None
        if self._truth is not None and self._truth_panoptic is not None:
            try:
                known = None if truth is None else truth.compose_panoptic(self._truth.labels)
            except InputError:  # the grader tells why
                known = None
            if known is None or known[0].shape != pred.shape:
                return  # not graded, so not in the files that are compared either
            self._truth_panoptic.add(name, known[0])
        writer.add(name, pred)

    def _add_boxes(self, record: FrameRecord, scene: Scene, truth: Truth | None) -> None:
        height, width = scene.size_hw
        known = self._truth.labels.detection if self._truth is not None else self._labels.detection
        if self._truth is not None and (truth is None or truth.boxes_xyxy is None):
            return  # not graded, so not in the files that are compared either
        image = {'id': record.index, 'file_name': f'{record.index:09d}.png', 'height': height, 'width': width}
        self._images.append(image)
        assert scene.detections is not None
        for row in _rows(scene.detections, record.index, [_id_in(known, n) for n in self._labels.detection.names]):
            self._found.append(row)
        if truth is None or truth.boxes_xyxy is None or truth.class_ids is None or truth.is_crowd is None:
            return
        boxes = Detections(truth.boxes_xyxy, truth.class_ids, np.ones(len(truth.class_ids), np.float32))
        for row, crowd in zip(_rows(boxes, record.index, range(1, len(known) + 1)), truth.is_crowd, strict=True):
            del row['score']
            area = row['bbox'][2] * row['bbox'][3]
            self._known.append({**row, 'id': len(self._known) + 1, 'area': area, 'iscrowd': int(crowd)})


def _create_panoptic_writer(folder: Path, labels: SceneLabels, name: str) -> PanopticWriter:
    if labels.semantic is None or not labels.has_instances:
        raise ConfigError('--save panoptic: no class of the boxes is one of the masks, so there are no instances')
    return PanopticWriter(folder / 'panoptic', labels.semantic, name=name)


def mask_name(record: FrameRecord, truth: Truth | None) -> str:
    """Name of a frame as Cityscapes has them, city_sequence_frame: that of its dataset, else camera and number."""
    if truth is not None and truth.image_id:
        return truth.image_id
    city = re.sub(r'[^A-Za-z0-9]', '', record.camera) or 'bag'
    return f'{city}_{record.index // MAX_FRAME:06d}_{record.index % MAX_FRAME:06d}'


def _id_in(labels: LabelSet, name: str) -> int:
    """Category of the class of that name, 0 for one that the label set lacks."""
    return labels.names.index(name) + 1 if name in labels.names else 0


def _rows(boxes: Detections, image: int, categories: Any) -> list[dict[str, Any]]:
    rows = zip(to_xywh(boxes.boxes_xyxy).tolist(), boxes.class_ids.tolist(), boxes.scores.tolist(), strict=True)
    return [
        {'image_id': image, 'category_id': categories[class_id], 'bbox': box, 'score': score}
        for box, class_id, score in rows
        if categories[class_id]
    ]
