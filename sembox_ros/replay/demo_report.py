"""What `make demo` shows: a video, a contact sheet and a one-screen summary of what the node published."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sembox_ros.decoding import decode_image
from sembox_ros.draw import colorize, draw_legend
from sembox_ros.errors import DatasetError, InputError
from sembox_ros.labels import LabelSet, SceneLabels
from sembox_ros.replay.bags import BagMessage, read_bag
from sembox_ros.replay.demo_grade import Grader, Truths, render_grade
from sembox_ros.replay.health import DIAGNOSTICS_TOPIC, HealthReport, read_health
from sembox_ros.replay.media import VideoWriter, contact_sheet, fit_picture, write_image
from sembox_ros.replay.scene_messages import view_image

OUTPUT_TOPICS = (
    '/segmentation/mask', '/segmentation/color', '/overlay', '/detections', '/segmentation/label_info',
    '/detections/label_info', DIAGNOSTICS_TOPIC,
)  # fmt: skip
SHEET_ROWS = 4
CELL_HW = (256, 512)
MIN_RATE_HZ, MAX_RATE_HZ = 1.0, 30.0


@dataclass
class Recording:
    """What the recorded bag holds, gone through once."""

    overlay_stamps_ns: list[int] = field(default_factory=list)
    pixels: Counter[int] = field(default_factory=Counter)
    boxes: Counter[str] = field(default_factory=Counter)
    detection_messages: int = 0
    health: HealthReport = field(default_factory=HealthReport)

    def add(self, entry: BagMessage) -> None:
        """Take one message into account."""
        if entry.topic == '/segmentation/mask':
            ids, counts = np.unique(view_image(entry.message), return_counts=True)
            self.pixels.update({int(i): int(c) for i, c in zip(ids, counts, strict=True)})
        elif entry.topic == '/detections':
            self.detection_messages += 1
            self.boxes.update(d.results[0].hypothesis.class_id for d in entry.message.detections)
        elif entry.topic == DIAGNOSTICS_TOPIC:
            self.health = read_health(entry) or self.health
        elif entry.topic == '/overlay' and entry.stamp_ns is not None:
            self.overlay_stamps_ns.append(entry.stamp_ns)


def write_report(
    bag: Path,
    image_topic: str,
    recorded: Path,
    out: Path,
    labels: SceneLabels,
    *,
    trained: bool,
    truths: Truths | None = None,
) -> str:
    """Write overlay.mp4, contact_sheet.png and summary.json to `out`.

    Args:
        bag: what was played.
        image_topic: its image topic.
        recorded: what the node published.
        out: folder for the results.
        labels: label sets of the checkpoint that ran.
        trained: False if its weights are random.
        truths: what is to be seen in the images, if that is known; then the summary has a grade.

    Returns:
        The one-screen summary.

    Raises:
        DatasetError: nothing was recorded, so there is nothing to show.
    """
    recording = Recording()
    grader = None if truths is None else Grader(labels, truths)
    for entry in read_bag(recorded, [t for t in OUTPUT_TOPICS if t != '/segmentation/color']):
        recording.add(entry)
        if grader is not None:
            grader.add(entry)
    stamps = recording.overlay_stamps_ns
    if not stamps:
        raise DatasetError(f'the node published no overlay; see {out}/node.log')
    write_video(recorded, out / 'overlay.mp4', stamps)
    write_sheet(bag, image_topic, recorded, out / 'contact_sheet.png', recording, labels.semantic, truths)
    summary = summarize(recording, labels, trained=trained)
    summary['grade'] = None if grader is None else grader.summarize()
    (out / 'summary.json').write_text(json.dumps(summary, indent=1))
    return render_summary(summary)


def write_video(recorded: Path, path: Path, stamps_ns: Sequence[int]) -> None:
    """The overlays as a video in which every picture stands as long as it did."""
    gaps = np.diff(sorted(stamps_ns)) / 1e9
    positive = gaps[gaps > 0]
    rate = float(np.clip(1 / np.median(positive), MIN_RATE_HZ, MAX_RATE_HZ)) if positive.size else 5.0
    with VideoWriter(path, rate) as writer:
        for entry in read_bag(recorded, ['/overlay']):
            writer.write(view_image(entry.message))


def write_sheet(
    bag: Path,
    image_topic: str,
    recorded: Path,
    path: Path,
    recording: Recording,
    labels: LabelSet | None,
    truths: Truths | None,
) -> None:
    """Input, ground truth if known, class colours and overlay side by side for a few moments, with a legend."""
    stamps = recording.overlay_stamps_ns
    picks = [stamps[i] for i in sorted(set(np.linspace(0, len(stamps) - 1, SHEET_ROWS).round().astype(int).tolist()))]
    rows: dict[int, dict[str, np.ndarray]] = {stamp: {} for stamp in picks}
    for entry in read_bag(recorded, ['/overlay', '/segmentation/color']):
        if entry.stamp_ns in rows:
            rows[entry.stamp_ns][entry.topic] = fit_picture(view_image(entry.message), CELL_HW)
    for entry in read_bag(bag, [image_topic]):
        if entry.stamp_ns in rows:
            rows[entry.stamp_ns]['input'] = fit_picture(view_input(entry.message), CELL_HW)
    titles = {'input': f'{image_topic} (played)', '/segmentation/color': 'segmentation/color', '/overlay': 'overlay'}
    if truths is not None and truths.labels.semantic is not None:
        titles = {'input': titles.pop('input'), 'truth': 'ground truth', **titles}
        for stamp, row in rows.items():
            truth = truths.find(stamp)
            if truth is not None:
                row['truth'] = fit_picture(colorize(truth.semantic, truths.labels.semantic), CELL_HW)
    blank = np.zeros((*CELL_HW, 3), np.uint8)
    sheet = contact_sheet(
        ([row.get(name, blank) for name in titles] for row in rows.values()), list(titles.values()), CELL_HW
    )
    if labels is not None:
        seen = [i for i, _ in recording.pixels.most_common() if i < len(labels)]
        sheet = np.concatenate((sheet, draw_legend(labels, seen, sheet.shape[1])))
    write_image(path, sheet)


def view_input(message: Any) -> np.ndarray:
    """Pixels of an input image for the contact sheet; black if the message cannot be used."""
    try:
        return decode_image(message)
    except InputError:
        return np.zeros((*CELL_HW, 3), np.uint8)


def summarize(recording: Recording, labels: SceneLabels, *, trained: bool) -> dict[str, Any]:
    """Counts, latencies and classes as plain numbers and strings."""
    health = recording.health
    total = sum(recording.pixels.values()) or 1
    classes = {}
    for class_id, pixels in recording.pixels.most_common():
        name = labels.semantic_names[class_id] if class_id < len(labels.semantic_names) else f'id {class_id}'
        classes[name] = round(pixels / total, 4)
    boxes = {labels.detection.names[int(i)]: n for i, n in recording.boxes.most_common()}
    return {
        'trained': trained,
        'device': health.values.get('device', ''),
        'frames': health.counts,
        'latency_ms': health.stages_ms,
        'resident_memory_mib': health.memory_mib('resident'),
        'mask_share': classes,
        'detection_messages': recording.detection_messages,
        'boxes': boxes,
    }


def render_summary(summary: dict[str, Any]) -> str:
    """The summary for a terminal."""
    frames = summary['frames']
    lines = [
        '',
        'frames    ' + ', '.join(f'{name} {n}' for name, n in frames.items() if n or name in ('received', 'processed')),
        f'latency   {"ms":>12} {"p50":>8} {"p95":>8} {"p99":>8}',
    ]
    for stage, values in summary['latency_ms'].items():
        lines.append(f'          {stage:>12} {values["p50"]:8.1f} {values["p95"]:8.1f} {values["p99"]:8.1f}')
    shares = [f'{name} {share:.1%}' for name, share in summary['mask_share'].items() if share >= 0.001]
    lines.append('mask      ' + ', '.join(shares[:10]) + (f' and {len(shares) - 10} more' if len(shares) > 10 else ''))
    boxes = [f'{name} {n}' for name, n in list(summary['boxes'].items())[:8]]
    lines.append(f'boxes     {", ".join(boxes) or "none"} in {summary["detection_messages"]} messages')
    if summary['grade'] is not None:
        lines += render_grade(summary['grade'], trained=summary['trained'])
    lines.append(f'memory    {summary["resident_memory_mib"]} MiB resident, device {summary["device"]}')
    if not summary['trained']:
        lines.append(
            '\nThe weights are UNTRAINED: colours and boxes are what a random network makes of the images. What you see'
            '\nis that images travel through ROS 2 topics, the network and back. --checkpoint FILE gives real results.'
        )
    return '\n'.join(lines) + '\n'
