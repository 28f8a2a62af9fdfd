"""`python -m sembox_ros predict`: masks, instances, boxes and overlays for images, folders, videos. Needs no ROS."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sembox_ros.cli.common import (
    PREDICTOR_OPTIONS,
    add_config_options,
    detection_config,
    load_predictor,
    run_command,
)
from sembox_ros.draw import colorize_panoptic, draw_overlay
from sembox_ros.errors import InputError
from sembox_ros.inference.predictor import OUTPUTS, Predictor
from sembox_ros.labels import LabelSet
from sembox_ros.panoptic import INSTANCES
from sembox_ros.replay.media import (
    VideoReader,
    VideoWriter,
    find_media,
    is_video,
    read_image,
    unique_names,
    write_image,
)
from sembox_ros.types import Detections, Scene, Segments

OPTIONS = (
    *PREDICTOR_OPTIONS, 'score_threshold', 'nms_iou_threshold', 'max_detections', 'fusion',
    'overlay_alpha',
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('paths', nargs='+', type=Path, metavar='PATH', help='image, video, or folder of them')
    parser.add_argument('--out', type=Path, default=Path('predictions'), help='folder for the results')
    add_config_options(parser, OPTIONS)


def plan_names(paths: list[Path]) -> list[tuple[Path, str]]:
    """(file, name of its results without suffix), the name unique and, for folders, with the path below them.

    Raises:
        InputError: a path holds nothing of use.
    """
    found = [(file, path) for path in paths for file in find_media(path)]
    stems = (file.relative_to(path) if path.is_dir() else Path(file.name) for file, path in found)
    names = unique_names(str(stem.with_suffix('')) for stem in stems)
    return [(file, name) for (file, _), name in zip(found, names, strict=True)]


def detections_json(detections: Detections, labels: LabelSet) -> list[dict[str, Any]]:
    """Boxes as JSON-ready records: id (in the image of instances), class id, class name, score, box_xyxy in pixels."""
    rows = zip(detections.ids, detections.class_ids, detections.scores, detections.boxes_xyxy, strict=True)
    return [{'id': int(number), **_record(labels, *row)} for number, *row in rows]


def segments_json(segments: Segments, labels: LabelSet) -> list[dict[str, Any]]:
    """Segments as JSON-ready records: instance (0: stuff), class id, class name, score, box_xyxy and area in pixels."""
    rows = zip(
        segments.ids, segments.areas, segments.class_ids, segments.scores, segments.boxes_xyxy, strict=True
    )
    return [
        {'instance': int(number) % INSTANCES, **_record(labels, *row), 'area': int(area)}
        for number, area, *row in rows
    ]


def _record(labels: LabelSet, class_id: int, score: float, box_xyxy: np.ndarray) -> dict[str, Any]:
    return {
        'class_id': int(class_id),
        'class_name': labels.names[class_id],
        'score': round(float(score), 5),
        'box_xyxy': [round(float(v), 2) for v in box_xyxy],
    }


class Results:
    """Writes masks, instances, overlays and the list of boxes as they come.

    Args:
        out: folder; gets mask/, overlay/ and detections.json, and where the network's boxes and masks share classes
            also instances/ (16 bit, ids of the boxes) and panoptic/ (for people).
        predictor: whose scenes are written.
        options: parsed command line.
    """

    def __init__(self, out: Path, predictor: Predictor, options: argparse.Namespace) -> None:
        self._out, self._predictor, self._alpha = out, predictor, options.overlay_alpha
        self._detection = detection_config(options)
        self.records: list[dict[str, Any]] = []

    def image(self, file: Path, name: str) -> None:
        """Predict one image file and write mask/NAME.png, overlay/NAME.jpg and so on.

        Raises:
            InputError: unreadable image, or a result that cannot be written.
        """
        image = read_image(file)
        scene, overlay = self._predict(image)
        self._write_planes(name, scene)
        write_image(self._out / 'overlay' / f'{name}.jpg', overlay)
        self._remember(file, name, scene, frame=None)

    def video(self, file: Path, name: str) -> None:
        """Predict every frame of a video and write mask/NAME/000000.png ..., overlay/NAME.mp4 and so on.

        Raises:
            InputError: unreadable video; what came before the damage is kept.
        """
        reader = VideoReader(file)
        frames = tqdm(reader, total=reader.frame_count or None, desc=file.name, unit='frame', leave=False, disable=None)
        with VideoWriter(self._out / 'overlay' / f'{name}.mp4', reader.rate_hz) as writer:
            for number, frame in enumerate(_closing(frames)):
                scene, overlay = self._predict(frame)
                self._write_planes(f'{name}/{number:06d}', scene)
                writer.write(overlay)
                self._remember(file, name, scene, frame=number)

    def save(self) -> None:
        """Write detections.json."""
        labels = self._predictor.labels
        text = json.dumps(
            {
                'model': self._predictor.checkpoint.config.name,
                'trained': self._predictor.checkpoint.trained,
                'semantic_classes': list(labels.semantic_names),
                'detection_classes': list(labels.detection.names),
                'images': self.records,
            },
            indent=1,
        )
        self._out.mkdir(parents=True, exist_ok=True)
        (self._out / 'detections.json').write_text(text)

    def _predict(self, image: np.ndarray) -> tuple[Scene, np.ndarray]:
        [scene] = self._predictor.predict([image], detection=self._detection, outputs=OUTPUTS - {'confidence'})
        return scene, draw_overlay(image, scene, self._predictor.labels, alpha=self._alpha)

    def _write_planes(self, name: str, scene: Scene) -> None:
        if scene.semantic is not None:  # a network that only detects has none
            write_image(self._out / 'mask' / f'{name}.png', scene.semantic)
        if scene.instances is not None:
            write_image(self._out / 'instances' / f'{name}.png', scene.instances)
            color = colorize_panoptic(scene, self._predictor.labels)
            write_image(self._out / 'panoptic' / f'{name}.png', color)

    def _remember(self, file: Path, name: str, scene: Scene, frame: int | None) -> None:
        assert scene.detections is not None
        record: dict[str, Any] = {'file': str(file), 'name': name}
        if frame is not None:
            record['frame'] = frame
        height, width = scene.size_hw
        labels = self._predictor.labels
        boxes = detections_json(scene.detections, labels.detection)
        record |= {'height': height, 'width': width, 'detections': boxes}
        if scene.segments is not None and labels.semantic is not None:
            record['segments'] = segments_json(scene.segments, labels.semantic)
        self.records.append(record)


def _closing(frames: tqdm[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, with the progress bar closed at the end however it comes."""
    with frames:
        yield from frames


def run(options: argparse.Namespace) -> int:
    """Predict everything; a bad file is reported and passed over, and Ctrl-C keeps what is done."""
    plan = plan_names(options.paths)
    predictor = load_predictor(options)
    if not predictor.checkpoint.trained:
        print('the weights are UNTRAINED: masks and boxes are meaningless; pass --checkpoint FILE', file=sys.stderr)
    results = Results(options.out, predictor, options)
    failed = 0
    try:
        for file, name in tqdm(plan, unit='file', desc='predict', disable=None):
            try:
                (results.video if is_video(file) else results.image)(file, name)
            except InputError as error:
                failed += 1
                tqdm.write(f'skipped: {error}', file=sys.stderr)
    finally:
        results.save()
    boxes = sum(len(record['detections']) for record in results.records)
    skipped = f'; {failed} file(s) skipped' if failed else ''
    print(f'{len(results.records)} image(s), {boxes} box(es) in {options.out}/{skipped}')
    return 1 if failed else 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='predict', description=__doc__, add_arguments=add_arguments, run=run)
