"""What `make demo` shows beside the report of its replay: a video and a contact sheet of what the node published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sembox_ros.decoding import decode_image
from sembox_ros.draw import colorize, draw_legend
from sembox_ros.errors import InputError
from sembox_ros.labels import LabelSet
from sembox_ros.replay.bags import read_bag
from sembox_ros.replay.media import VideoWriter, contact_sheet, fit_picture, write_image
from sembox_ros.replay.scene_messages import view_image
from sembox_ros.replay.truth import TruthSource

SHEET_ROWS = 4
CELL_HW = (256, 512)
MIN_RATE_HZ, MAX_RATE_HZ = 1.0, 30.0


def write_video(recorded: Path, path: Path, rate_hz: float) -> list[int]:
    """The overlays that the node published as a video.

    Args:
        recorded: bag of what the node published.
        path: of the video.
        rate_hz: at which they came.

    Returns:
        Their stamps, nanoseconds; without any there is no video.

    Raises:
        DatasetError: the bag cannot be read.
    """
    stamps_ns = []
    with VideoWriter(path, min(MAX_RATE_HZ, max(MIN_RATE_HZ, rate_hz))) as writer:
        for entry in read_bag(recorded, ['/overlay']):
            writer.write(view_image(entry.message))
            stamps_ns.append(entry.stamp_ns or 0)
    return stamps_ns


def write_sheet(
    bag: Path,
    image_topic: str,
    recorded: Path,
    path: Path,
    *,
    stamps_ns: Sequence[int],
    labels: LabelSet | None,
    class_share: Mapping[str, float],
    truth: TruthSource | None,
) -> None:
    """Input, ground truth if known, class colours and overlay side by side for a few moments, with a legend.

    Args:
        bag: what was played.
        image_topic: its image topic.
        recorded: what the node published.
        path: of the picture.
        stamps_ns: of the overlays, of which a few are picked.
        labels: semantic label set of the network; None if it only detects.
        class_share: class -> share of all pixels; the legend has the largest first.
        truth: what is to be seen in the images, if that is known.

    Raises:
        SemboxError: a bag cannot be read, or the picture not be written.
    """
    picks = np.linspace(0, len(stamps_ns) - 1, min(SHEET_ROWS, len(stamps_ns))).round().astype(int).tolist()
    rows: dict[int | None, dict[str, np.ndarray]] = {stamps_ns[i]: {} for i in picks}
    for entry in read_bag(recorded, ['/overlay', '/segmentation/color']):
        if entry.stamp_ns in rows:
            rows[entry.stamp_ns][entry.topic] = fit_picture(view_image(entry.message), CELL_HW)
    for entry in read_bag(bag, [image_topic]):
        if entry.stamp_ns in rows:
            rows[entry.stamp_ns]['input'] = fit_picture(view_input(entry.message), CELL_HW)
    titles = {'input': f'{image_topic} (played)', '/segmentation/color': 'segmentation/color', '/overlay': 'overlay'}
    if truth is not None and truth.labels.semantic is not None:
        titles = {'input': titles.pop('input'), 'truth': 'ground truth', **titles}
        for stamp_ns, row in rows.items():
            known = truth.find('', stamp_ns or 0)
            if known is not None and known.semantic is not None:
                row['truth'] = colorize(known.semantic, truth.labels.semantic)
    blank = np.zeros((*CELL_HW, 3), np.uint8)
    cells = ([row.get(name, blank) for name in titles] for row in rows.values())
    sheet = contact_sheet(cells, list(titles.values()), CELL_HW)
    if labels is not None:
        seen = sorted((name for name, share in class_share.items() if share), key=lambda name: -class_share[name])
        sheet = np.concatenate((sheet, draw_legend(labels, [labels.names.index(n) for n in seen], sheet.shape[1])))
    write_image(path, sheet)


def view_input(message: Any) -> np.ndarray:
    """Pixels of an input image for the contact sheet; black if the message cannot be used."""
    try:
        return decode_image(message)
    except InputError:
        return np.zeros((*CELL_HW, 3), np.uint8)
