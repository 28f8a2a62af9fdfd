"""Ids of objects that stay from frame to frame: one Kalman filter per object, matched by overlap.

SORT (Bewley et al. 2016) with elapsed time in place of frames. docs/architecture.md says why no library does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import torch
from torchvision.ops import box_iou

from sembox_ros.errors import InputError
from sembox_ros.types import MAX_INSTANCE, Detections, Scene

MAX_LOST_S = 2.0  # an object that was not seen for longer is a new one
MAX_LOST_FRAMES = 30  # the same for cameras whose stamps stand still
MAX_TRACKS = 1000  # those seen last; noise must not grow memory
MIN_IOU = 0.05  # low, because the boxes of distant objects are small and jump by their own size

# Standard deviations in sides of the object's box: of a measured edge, of the speed of an edge (per second) when
# nothing is known of it, and of what that speed gains in one second.
_EDGE, _FIRST_SPEED, _SPEED_GAIN = 0.03, 1.0, 0.5

# What is known of an object: the four edges of its box (px), their speeds (px/s), and the variances and the covariance
# of the two, which all four edges share.
_TRACK = np.dtype(
    [
        ('id', np.int64), ('class_id', np.int64), ('box_xyxy', np.float64, 4), ('speed', np.float64, 4),
        ('var_edge', np.float64), ('covariance', np.float64), ('var_speed', np.float64), ('seen_ns', np.int64),
        ('missed', np.int64),
    ]
)  # fmt: skip


class SceneTracker:
    """Renumbers the objects in the scenes of one camera, so that an object keeps its number.

    A detection continues the track of its class that it overlaps most, else it begins a new one. Numbers are 1 to 65535
    in turn, and none is given again while the object that has it may still come back. Everything is forgotten, except
    which numbers were given last, when time goes backwards and when the size of the image changes.
    """

    def __init__(self) -> None:
        self._tracks = np.zeros(0, _TRACK)
        self._last_id = 0
        self._stamp_ns = 0
        self._size_hw = (0, 0)

    def update(self, scene: Scene, stamp_ns: int) -> Scene:
        """The scene with the numbers that its objects have had since they were first seen.

        Args:
            scene: of the next frame, with detections.
            stamp_ns: when it was taken, nanoseconds.

        Returns:
            The scene with other `detections.ids`, and with `instances`, `panoptic` and `segments` to match.

        Raises:
            InputError: the scene has no detections.
        """
        if scene.detections is None:
            raise InputError("scene: expected detections to track, got None; ask the predictor for 'detections' too")
        if stamp_ns < self._stamp_ns or scene.size_hw != self._size_hw:
            self._tracks = self._tracks[:0]
        elapsed_s = (stamp_ns - self._stamp_ns) * 1e-9
        self._stamp_ns, self._size_hw = stamp_ns, scene.size_hw
        self._forget()
        self._predict(elapsed_s)
        return renumber(scene, self._follow(scene.detections))

    def _follow(self, detections: Detections) -> np.ndarray:
        """Ids (N,) int64 of the tracks that the detections continue or begin."""
        boxes = detections.boxes_xyxy.astype(np.float64)
        tracks, seen = _match(self._tracks, boxes, detections.class_ids)
        self._correct(tracks, boxes[seen])
        ids = np.zeros(len(boxes), np.int64)
        ids[seen] = self._tracks['id'][tracks]

        new = np.flatnonzero(ids == 0)
        ids[new] = self._free_ids(len(new))
        begun = np.zeros(len(new), _TRACK)
        begun['id'], begun['class_id'], begun['box_xyxy'] = ids[new], detections.class_ids[new], boxes[new]
        begun['var_edge'] = (_EDGE * _side(boxes[new])) ** 2
        begun['var_speed'] = (_FIRST_SPEED * _side(boxes[new])) ** 2
        begun['seen_ns'] = self._stamp_ns
        self._tracks = np.concatenate((self._tracks, begun))
        return ids

    def _forget(self) -> None:
        """Drop the tracks whose objects were not seen for long."""
        lost_s = (self._stamp_ns - self._tracks['seen_ns']) * 1e-9
        kept = self._tracks[(lost_s <= MAX_LOST_S) & (self._tracks['missed'] < MAX_LOST_FRAMES)]
        self._tracks = kept[np.argsort(kept['missed'], kind='stable')[:MAX_TRACKS]]

    def _predict(self, dt: float) -> None:
        """Move all tracks on by `dt` seconds; their speeds drift as white noise in the acceleration has it."""
        t = self._tracks
        noise = (_SPEED_GAIN * _side(t['box_xyxy'])) ** 2
        t['box_xyxy'] += dt * t['speed']
        t['var_edge'] += 2 * dt * t['covariance'] + dt**2 * t['var_speed'] + noise * dt**3 / 3
        t['covariance'] += dt * t['var_speed'] + noise * dt**2 / 2
        t['var_speed'] += noise * dt
        t['missed'] += 1

    def _correct(self, rows: np.ndarray, boxes_xyxy: np.ndarray) -> None:
        """Tell some tracks where their objects are: the Kalman update, with the edges as measurements."""
        t = self._tracks[rows]
        variance = t['var_edge'] + (_EDGE * _side(boxes_xyxy)) ** 2
        gain_edge, gain_speed = t['var_edge'] / variance, t['covariance'] / variance
        error = boxes_xyxy - t['box_xyxy']
        t['box_xyxy'] += gain_edge[:, None] * error
        t['speed'] += gain_speed[:, None] * error
        t['var_speed'] -= gain_speed * t['covariance']
        t['covariance'] *= 1 - gain_edge
        t['var_edge'] *= 1 - gain_edge
        t['seen_ns'], t['missed'] = self._stamp_ns, 0
        self._tracks[rows] = t

    def _free_ids(self, count: int) -> np.ndarray:
        """The next `count` numbers that no track has, (count,) int64."""
        turn = (self._last_id + np.arange(count + len(self._tracks))) % MAX_INSTANCE + 1
        free = turn[~np.isin(turn, self._tracks['id'])][:count]
        if count:
            self._last_id = int(free[-1])
        return free


def _match(tracks: np.ndarray, boxes_xyxy: np.ndarray, class_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (P,) int64 of tracks and of boxes (N, 4) float64 of their classes that belong together."""
    if not len(tracks) or not len(boxes_xyxy):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    iou = box_iou(torch.from_numpy(tracks['box_xyxy'].copy()), torch.from_numpy(boxes_xyxy)).numpy()
    # Those of other classes, and the NaN of two empty boxes, are no candidates.
    iou = np.where((tracks['class_id'][:, None] == class_ids) & (iou >= MIN_IOU), iou, 0.0)
    rows, columns = zip(*_mutual_best(iou), strict=True)
    return np.concatenate(rows), np.concatenate(columns)


def _mutual_best(iou: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs that are each other's best, then those among the rest, and so on: what taking the largest first gives."""
    while True:
        best_column, best_row = iou.argmax(axis=1), iou.argmax(axis=0)
        rows = np.flatnonzero(best_row[best_column] == np.arange(len(iou)))
        rows = rows[iou[rows, best_column[rows]] > 0]
        columns = best_column[rows]
        yield rows, columns
        if not len(rows):
            return
        iou[rows], iou[:, columns] = 0, 0


def renumber(scene: Scene, ids: np.ndarray) -> Scene:
    """Give the detections of a scene, and their pixels and segments, other ids.

    Args:
        scene: with detections.
        ids: (N,) int64, the new `detections.ids`.
    """
    assert scene.detections is not None
    before = scene.detections.ids
    # 256 entries at least, so that the usual scene, whose numbers fit a byte, is looked up by OpenCV: 1 ms for
    # 1024x2048, where NumPy takes 10.
    table = np.zeros(max(256, int(before.max(initial=0)) + 1), np.uint16)
    table[before] = ids
    instances, panoptic, segments = scene.instances, scene.panoptic, scene.segments
    if instances is not None:
        instances = cv2.LUT(instances.astype(np.uint8), table) if len(table) == 256 else table[instances]
    if panoptic is not None:
        panoptic = _renumber_segments(panoptic, table)
    if segments is not None:
        new = _renumber_segments(segments.ids, table)
        order = np.argsort(new)
        columns = (new, segments.class_ids, segments.scores, segments.areas, segments.boxes_xyxy)
        segments = type(segments)(*(column[order] for column in columns))
    detections = replace(scene.detections, ids=ids)
    return replace(scene, detections=detections, instances=instances, panoptic=panoptic, segments=segments)


def _renumber_segments(ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Panoptic ids, int32 in any shape, with what `table` says for their low 16 bits; see `panoptic`."""
    numbers = ids & MAX_INSTANCE
    return ids - numbers + table[numbers]


def _side(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Sides (N,) of squares as large as the boxes (N, 4), at least 1 px."""
    return np.sqrt(np.prod(np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 1.0), axis=1))
