"""`python -m sembox_ros predict`: masks, instances, boxes and overlays of images and videos. Needs no ROS."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
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
from sembox_ros.draw import colorize_depth, colorize_panoptic, draw_overlay
from sembox_ros.errors import ConfigError, InputError
from sembox_ros.inference.predictor import OUTPUTS, Predictor
from sembox_ros.labels import LabelSet
from sembox_ros.panoptic import INSTANCES
from sembox_ros.replay.media import DEFAULT_RATE_HZ, VideoWriter, find_media, unique_names, write_image
from sembox_ros.replay.parts import writing
from sembox_ros.replay.pictures import (
    AHEAD,
    Picture,
    count_pictures,
    link_pictures,
    predict_pictures,
    read_ahead,
    read_pictures,
    track_pictures,
)
from sembox_ros.training.interrupt import Interrupt
from sembox_ros.types import Detections, Scene, Segments

MIN_FPS, MAX_FPS = 0.1, 1000.0

OPTIONS = (
    *PREDICTOR_OPTIONS, 'score_threshold', 'nms_iou_threshold', 'max_detections', 'fusion',
    'overlay_alpha',
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        'paths', nargs='+', type=Path, metavar='PATH',
        help='image, video (.mp4, .mkv, .avi, .mov, ...), or folder of them, in the order of its numbers (2 before 10)',
    )  # fmt: skip
    parser.add_argument(
        '--out', type=Path, metavar='FOLDER',
        help='folder for masks, instances, overlays and detections.json; default: predictions, with --video none',
    )  # fmt: skip
    parser.add_argument(
        '--video', type=Path, metavar='FILE.mp4',
        help='one video of the overlays of all PATHs, one after the other, each fitted to the size of the first; '
        'without sound',
    )  # fmt: skip
    parser.add_argument(
        '--fps', type=float, metavar='N',
        help='frames per second at which written videos play, no frame is left out; default: that of the first input '
        f'video, {DEFAULT_RATE_HZ:g} for images',
    )  # fmt: skip
    parser.add_argument('--batch', type=int, default=4, help='images per run of the network')
    parser.add_argument(
        '--tracking', action='store_true',
        help='an object keeps its id, and its tone in overlays, through a video, or through images in a row',
    )  # fmt: skip
    add_config_options(parser, OPTIONS)


def plan_names(paths: list[Path], video: Path | None = None) -> list[tuple[Path, str]]:
    """(file, name of its results without suffix), the name unique and, for folders, with the path below them.

    Args:
        paths: files and folders.
        video: that is to be written; in a folder it is passed over, as it may be there from the last time.

    Raises:
        InputError: a path holds nothing of use, or is the video.
    """
    found = [
        (file, path) for path in paths for file in find_media(path) if path.is_file() or not _same_file(file, video)
    ]
    for file, _ in found:
        if _same_file(file, video):
            raise InputError(f'--video: expected another file than the input {file}, which it would overwrite')
    stems = (file.relative_to(path) if path.is_dir() else Path(file.name) for file, path in found)
    names = unique_names(str(stem.with_suffix('')) for stem in stems)
    return [(file, name) for (file, _), name in zip(found, names, strict=True)]


def _same_file(file: Path, other: Path | None) -> bool:
    return other is not None and other.exists() and file.samefile(other)


def check_options(options: argparse.Namespace) -> None:
    """Refuse what would fail only after the first images.

    Raises:
        ConfigError: a number outside its limits, or a video of another kind.
        InputError: the video cannot be written there.
    """
    if options.batch < 1:
        raise ConfigError(f'--batch: expected 1 or more, got {options.batch}')
    if options.fps is not None and not MIN_FPS <= options.fps <= MAX_FPS:
        raise ConfigError(f'--fps: expected a number in {MIN_FPS}..{MAX_FPS}, got {options.fps}')
    video = options.video
    if video is None:
        return
    if video.suffix.lower() != '.mp4':
        raise ConfigError(f'--video: expected a name ending in .mp4, got {video}')
    with writing(video):
        video.parent.mkdir(parents=True, exist_ok=True)
    if video.is_dir() or not os.access(video if video.exists() else video.parent, os.W_OK):
        raise InputError(f'--video: {video} is a folder or may not be written; name another file')


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


def depth_millimetres(depth: np.ndarray) -> np.ndarray:
    """(H, W) float32 metres to uint16 millimetres as REP 118 has them; 0, which is unknown, from 65.536 m on."""
    millimetres = np.rint(depth * 1000)
    return np.where(millimetres <= np.iinfo(np.uint16).max, millimetres, 0).astype(np.uint16)


def _record(labels: LabelSet, class_id: int, score: float, box_xyxy: np.ndarray) -> dict[str, Any]:
    return {
        'class_id': int(class_id),
        'class_name': labels.names[class_id],
        'score': round(float(score), 5),
        'box_xyxy': [round(float(v), 2) for v in box_xyxy],
    }


class Results:
    """A folder of masks, instances, overlays and the list of boxes, written as they come.

    Args:
        out: folder; gets overlay/, detections.json and what the network gives: mask/, where its boxes and masks share
            classes instances/ (16 bit, ids of the boxes) and panoptic/ (for people), depth/ (16 bit, see
            `depth_millimetres`) and depth_color/ (for people), motion/ (255 = moves).
        predictor: whose scenes are written.
        fps: of overlay videos; None: as in the input video.

    Raises:
        DatasetError: on entering, or later: the folder cannot be written.
    """

    def __init__(self, out: Path, predictor: Predictor, fps: float | None) -> None:
        self._out, self._predictor, self._fps = out, predictor, fps
        self._overlay: VideoWriter | None = None
        self._name = ''  # of the video that it belongs to

    def __enter__(self) -> Results:
        labels = self._predictor.labels
        described = {
            'model': self._predictor.checkpoint.config.name,
            'trained': self._predictor.checkpoint.trained,
            'semantic_classes': list(labels.semantic_names),
            'detection_classes': list(labels.detection.names),
        }
        with writing(self._out):
            self._out.mkdir(parents=True, exist_ok=True)
            # Records are written as they come: those of a long video need not fit into memory.
            self._list = (self._out / 'detections.json').open('w')
            self._list.write(f'{json.dumps(described)[:-1]}, "images": [')
        self._separator = '\n'
        return self

    def __exit__(self, *_: object) -> None:
        with writing(self._out), self._list:
            self._list.write('\n]}\n')
            self._close_overlay()

    def write(self, picture: Picture, scene: Scene, overlay: np.ndarray) -> None:
        """Write mask/NAME.png, overlay/NAME.jpg and so on; for frames mask/NAME/000000.png and overlay/NAME.mp4.

        Raises:
            DatasetError: they cannot be written.
        """
        with writing(self._out):
            if picture.frame is None:
                self._write_planes(picture.name, scene)
                write_image(self._out / 'overlay' / f'{picture.name}.jpg', overlay)
            else:
                self._write_planes(f'{picture.name}/{picture.frame:06d}', scene)
                self._video_of(picture).write(overlay)
            self._list.write(f'{self._separator}{json.dumps(self._record(picture, scene))}')
        self._separator = ',\n'

    def _video_of(self, picture: Picture) -> VideoWriter:
        if self._overlay is None or self._name != picture.name:
            self._close_overlay()
            rate_hz = self._fps or picture.rate_hz or DEFAULT_RATE_HZ
            self._overlay = VideoWriter(self._out / 'overlay' / f'{picture.name}.mp4', rate_hz)
            self._name = picture.name
        return self._overlay

    def _close_overlay(self) -> None:
        if self._overlay is not None:
            self._overlay.close()
            self._overlay = None

    def _write_planes(self, name: str, scene: Scene) -> None:
        if scene.semantic is not None:  # a network that only detects has none
            write_image(self._out / 'mask' / f'{name}.png', scene.semantic)
        if scene.instances is not None:
            write_image(self._out / 'instances' / f'{name}.png', scene.instances)
            color = colorize_panoptic(scene, self._predictor.labels)
            write_image(self._out / 'panoptic' / f'{name}.png', color)
        if scene.depth is not None:
            write_image(self._out / 'depth' / f'{name}.png', depth_millimetres(scene.depth))
            write_image(self._out / 'depth_color' / f'{name}.png', colorize_depth(scene.depth))
        if scene.motion is not None:
            write_image(self._out / 'motion' / f'{name}.png', scene.motion.view(np.uint8) * np.uint8(255))

    def _record(self, picture: Picture, scene: Scene) -> dict[str, Any]:
        record: dict[str, Any] = {'file': str(picture.file), 'name': picture.name}
        if picture.frame is not None:
            record['frame'] = picture.frame
        height, width = scene.size_hw
        labels = self._predictor.labels
        record |= {'height': height, 'width': width}
        if scene.detections is not None:
            record['detections'] = detections_json(scene.detections, labels.detection)
        if scene.segments is not None and labels.semantic is not None:
            record['segments'] = segments_json(scene.segments, labels.semantic)
        return record


class Film:
    """One video of everything.

    Args:
        path: of the video.
        fps: frames per second; None: that of the first video, `DEFAULT_RATE_HZ` if an image comes first.

    Raises:
        DatasetError: on leaving, or earlier: it cannot be written.
    """

    def __init__(self, path: Path, fps: float | None) -> None:
        self._path, self._fps = path, fps
        self._writer: VideoWriter | None = None

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            with writing(self._path):
                self._writer.close()

    def write(self, picture: Picture, _: Scene, overlay: np.ndarray) -> None:
        """Append a frame."""
        if self._writer is None:
            self._writer = VideoWriter(self._path, self._fps or picture.rate_hz or DEFAULT_RATE_HZ)
        with writing(self._path):
            self._writer.write(overlay)


@dataclass
class Counts:
    """What came of the input."""

    images: int = 0
    boxes: int = 0
    problems: int = 0


def predict_all(
    plan: list[tuple[Path, str]],
    predictor: Predictor,
    sinks: list[Results | Film],
    options: argparse.Namespace,
    interrupt: Interrupt,
) -> Counts:
    """Reading, the network and writing side by side, until the end or an interrupt."""
    # For a video alone nobody looks at segments.
    outputs = OUTPUTS - {'confidence'} - (set() if options.out else {'panoptic'})
    predict = partial(predictor.predict, detection=detection_config(options), outputs=outputs)
    read = read_pictures(plan)
    pictures = read_ahead(link_pictures(read) if predictor.takes_flow else read, AHEAD)
    results = read_ahead(predict_pictures(predict, pictures, options.batch), options.batch)
    counts = Counts()
    total = count_pictures(plan)
    with closing(results), tqdm(total=total, unit='frame', desc='predict', disable=None) as progress:
        followed = track_pictures(results, options.fps or DEFAULT_RATE_HZ) if options.tracking else results
        for picture, scene in followed:
            if scene is None:
                counts.problems += 1
                tqdm.write(f'skipped: {picture.problem}', file=sys.stderr)
            else:
                assert picture.image is not None
                counts.images += 1
                if scene.detections is not None:
                    counts.boxes += len(scene.detections)
                overlay = draw_overlay(picture.image, scene, predictor.labels, alpha=options.overlay_alpha)
                for sink in sinks:
                    sink.write(picture, scene, overlay)
            progress.update()
            if interrupt.requested:
                break
    return counts


def run(options: argparse.Namespace) -> int:
    """Predict everything; a bad file is reported and passed over, and Ctrl-C keeps what is done."""
    check_options(options)
    if options.out is None and options.video is None:
        options.out = Path('predictions')
    plan = plan_names(options.paths, options.video)
    predictor = load_predictor(options)
    if not predictor.checkpoint.trained:
        print('the weights are UNTRAINED: masks and boxes are meaningless; pass --checkpoint FILE', file=sys.stderr)
    if options.tracking and 'detections' not in predictor.parts:
        raise ConfigError(f'--tracking: {predictor.checkpoint.config.name} finds no boxes that could be followed')
    interrupt = Interrupt()
    with ExitStack() as stack:
        # Until the files are closed: half a video cannot be played.
        stack.enter_context(interrupt.listening(lambda text: tqdm.write(text, file=sys.stderr)))
        sinks: list[Results | Film] = []
        if options.out:
            sinks.append(stack.enter_context(Results(options.out, predictor, options.fps)))
        if options.video:
            sinks.append(stack.enter_context(Film(options.video, options.fps)))
        counts = predict_all(plan, predictor, sinks, options, interrupt)
    places = [f'{options.out}/'] if options.out else []
    places += [str(options.video)] if options.video and counts.images else []
    skipped = f'; {counts.problems} file(s) skipped' if counts.problems else ''
    found = f', {counts.boxes} box(es)' if 'detections' in predictor.parts else ''
    print(f'{counts.images} image(s){found} in {" and ".join(places) or "nothing"}{skipped}')
    if interrupt.requested:
        raise KeyboardInterrupt
    return 1 if counts.problems else 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='predict', description=__doc__, add_arguments=add_arguments, run=run)
