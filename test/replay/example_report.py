"""A full report of an invented drive: every field that docs/replay.md names is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sembox_ros.labels import CITYSCAPES_19, CITYSCAPES_THINGS_8, SceneLabels
from sembox_ros.replay.media import write_image
from sembox_ros.replay.worst import render_worst
from sembox_ros.types import Detections, Scene

LABELS = SceneLabels.linked_by_name(CITYSCAPES_19, CITYSCAPES_THINGS_8)
FRAMES, BIN_S = 300, 0.5
IOU = (
    0.968, 0.812, 0.874, 0.431, 0.502, 0.477, 0.553, 0.641, 0.893, 0.584, 0.921, 0.702, 0.461, 0.884, 0.517, 0.693,
    None, 0.388, 0.651,
)  # fmt: skip
AP = {'person': 0.281, 'rider': 0.224, 'car': 0.482, 'truck': 0.301, 'bus': 0.447, 'train': None, 'motorcycle': 0.19,
      'bicycle': 0.213}  # fmt: skip


def percentiles(values: np.ndarray) -> dict[str, float]:
    p50, p95, p99 = np.percentile(values, (50, 95, 99)).tolist()
    return {'p50': p50, 'p95': p95, 'p99': p99, 'mean': float(values.mean()), 'max': float(values.max())}


def offline_report() -> dict[str, Any]:
    """300 frames with ground truth, some of them skipped."""
    random = np.random.default_rng(0)
    latency = 92 + random.gamma(2.0, 9.0, FRAMES)
    counts, edges = np.histogram(latency, 30)
    return {
        'schema': 'sembox_ros/replay_report',
        'version': 1,
        'name': 'city_drive_0',
        'mode': 'offline',
        'created': '2026-11-22T09:30:00Z',
        'sembox_ros': '0.1.0',
        'partial': None,
        'bag': {
            'name': 'city_drive_0',
            'duration_s': 29.9,
            'cameras': [{
                'name': '', 'topic': '/camera/image_raw', 'type': 'sensor_msgs/msg/Image', 'messages': FRAMES,
            }],
        },
        'network': {
            'checkpoint': 'bundled', 'sha256': 'a1' * 32, 'model': 'sembox_b1', 'trained': True, 'device': 'cpu',
            'engine': 'openvino', 'precision': 'fp32', 'batch': 4, 'score_threshold': 0.4,
            'graded_score_threshold': 0.05, 'nms_iou_threshold': 0.5,
            'max_detections': 100, 'fusion': 'boxes',
        },
        'labels': {
            'semantic': list(CITYSCAPES_19.names),
            'palette': [list(color) for color in CITYSCAPES_19.palette],
            'detection': list(CITYSCAPES_THINGS_8.names),
        },
        'frames': {
            'in_bag': FRAMES, 'processed': 296, 'skipped': {'JPEG cannot be decoded': 3, 'unknown encoding 14UC2': 1},
            'stamps': {'zero': 0, 'duplicate': 2, 'backwards': 1}, 'lost': 0,
        },
        'outputs_sha256': 'c0ffee' * 10 + 'abcd',
        'speed': {
            'seconds': 41.2,
            'frames_per_s': 7.18,
            'latency_ms': {
                'decode': percentiles(3.1 + random.gamma(2.0, 0.3, FRAMES)),
                'preprocess': percentiles(2.4 + random.gamma(2.0, 0.2, FRAMES)),
                'network': percentiles(latency - 13),
                'postprocess': percentiles(7.6 + random.gamma(2.0, 0.5, FRAMES)),
                'total': percentiles(latency),
            },
            'histogram': {'stage': 'total', 'edges_ms': edges.tolist(), 'counts': counts.tolist()},
        },
        'accuracy': _accuracy(random),
        'stability': _stability(random),
        'timeline': _timeline(random),
        'online': None,
        'worst': [],
    }  # fmt: skip


def online_report() -> dict[str, Any]:
    """The same drive played into the node, which dropped some of it."""
    random = np.random.default_rng(1)
    report = offline_report()
    latency = 118 + random.gamma(2.0, 14.0, 248)
    counts, edges = np.histogram(latency, 30)
    times = np.arange(0, 30, 0.5)
    dropped = np.cumsum((times > 12) & (times < 16)) * 6
    report |= {'mode': 'online', 'outputs_sha256': None, 'worst': []}
    report['frames'] |= {'processed': 248, 'skipped': {'dropped by the node': 48, 'stale': 4}}
    report['speed'] |= {
        'seconds': 31.0, 'frames_per_s': 8.3,
        'histogram': {'stage': 'end_to_end', 'edges_ms': edges.tolist(), 'counts': counts.tolist()},
    }  # fmt: skip
    report['timeline']['skipped'] = [6 if 12 < t < 16 else 0 for t in report['timeline']['t_s']]
    report['online'] = {
        'rate': 1.0, 'played': 300, 'answered': 248,
        'counts': {
            'received': 300, 'processed': 248, 'dropped': 48, 'stale': 4, 'failed': 0, 'paused': 0, 'idle': 0,
        },
        'end_to_end_ms': percentiles(latency),
        'age_ms': percentiles(latency + 4),
        'stages_ms': {
            'decode': {'p50': 2.8, 'p95': 3.4, 'p99': 4.1},
            'inference': {'p50': 97.0, 'p95': 121.0, 'p99': 139.0},
            'publish': {'p50': 5.2, 'p95': 7.9, 'p99': 11.0},
        },
        'throughput_hz': 8.3, 'cpu_percent_mean': 171.0, 'memory_mib_max': 1124.0,
        'samples': {
            't_s': times.tolist(),
            'cpu_percent': (165 + 12 * random.standard_normal(len(times))).tolist(),
            'memory_mib': (1080 + 40 * (1 - np.exp(-times / 5))).tolist(),
            'device_memory_mib': [0] * len(times),
            'received': (times * 10).tolist(),
            'processed': (times * 10 - dropped).tolist(),
            'dropped': dropped.astype(float).tolist(),
            'stale': np.minimum(dropped, 4).astype(float).tolist(),
        },
    }  # fmt: skip
    return report


def empty_report() -> dict[str, Any]:
    """A bag of which nothing came: everything that may be empty or null is."""
    report = offline_report()
    report |= {'accuracy': None, 'stability': None, 'partial': 'interrupted before the first frame', 'worst': []}
    report['frames'] |= {'processed': 0, 'skipped': {}}
    report['labels'] |= {'semantic': None, 'palette': None}
    report['speed'] |= {'latency_ms': {}, 'histogram': None, 'frames_per_s': 0.0}
    report['timeline'] = {name: [] for name in report['timeline']} | {'bin_s': 1.0, 'class_share': {}}
    return report


def _accuracy(random: np.random.Generator) -> dict[str, Any]:
    names = list(CITYSCAPES_19.names)
    known = [value for value in IOU if value is not None]
    scores = [value for value in AP.values() if value is not None]
    pixels = np.geomspace(5e7, 2e4, len(names))
    confusion = np.zeros((len(names), len(names) + 1))
    for index, value in enumerate(IOU):
        if value is None:  # a class that did not occur has an empty row
            continue
        rest = random.dirichlet(np.full(len(names), 0.12)) * (1 - np.sqrt(value))
        confusion[index] = pixels[index] * np.insert(rest, index, np.sqrt(value))
    recall = np.linspace(0, 1, 101)
    curves = {n: np.clip(1 - (recall / (2.1 * v + 0.1)) ** 3, 0, 1).tolist() for n, v in AP.items() if v is not None}
    ap50 = {name: None if value is None else min(1.0, 1.55 * value + 0.06) for name, value in AP.items()}
    return {
        'truth': 'topics of the bag', 'masks': 296, 'images': 296, 'scenes': 296, 'depths': 290, 'motions': 296,
        'semantic': {
            'miou': float(np.mean(known)), 'iou_per_class': dict(zip(names, IOU, strict=True)), 'pixel_accuracy': 0.934,
        },
        'boxes': {
            'ap': float(np.mean(scores)), 'ap50': 0.531, 'ap75': 0.294, 'ap_small': 0.081, 'ap_medium': 0.312,
            'ap_large': 0.547, 'ap_per_class': dict(AP), 'ap50_per_class': ap50,
        },
        'panoptic': _panoptic(),
        'depth': {'abs_rel': 0.1234, 'rmse_m': 4.567, 'delta1': 0.856},
        'motion': {'motion_miou': 0.81, 'moving_iou': 0.64, 'static_iou': 0.98},
        'confusion': {'names': names, 'counts': confusion.astype(int).tolist()},
        'pr_curves': {'iou': 0.5, 'recall': recall.tolist(), 'precision': curves},
        'notes': ["AP without caravan, which the network's 'cityscapes_things_8' lacks"],
    }  # fmt: skip


def _panoptic() -> dict[str, Any]:
    """Quality of the classes that were there; things are found less often than stuff."""
    table: dict[str, tuple[Any, ...]] = {}
    for name, is_thing, iou in zip(CITYSCAPES_19.names, CITYSCAPES_19.is_thing, IOU, strict=True):
        sq, rq = 0.5 + (iou or 0) / 2, (iou or 0) * (0.7 if is_thing else 1)
        table[name] = (is_thing, None, None, None) if iou is None else (is_thing, sq * rq, sq, rq)
    scores: dict[str, Any] = {}
    for column, quality in enumerate(('pq', 'sq', 'rq'), 1):
        for part, kinds in (('', (True, False)), ('_things', (True,)), ('_stuff', (False,))):
            values = [row[column] for row in table.values() if row[0] in kinds and row[column] is not None]
            scores[f'{quality}{part}'] = float(np.mean(values))
        scores[f'{quality}_per_class'] = {name: row[column] for name, row in table.items()}
    return scores


def _stability(random: np.random.Generator) -> dict[str, Any]:
    shares = random.dirichlet(np.geomspace(12, 0.2, 19))
    return {
        'frame_pairs': 295, 'mask_agreement': 0.962, 'mask_flicker': 0.0071, 'box_flicker': 0.083, 'box_gaps': 0.041,
        'class_share': dict(zip(CITYSCAPES_19.names, shares.tolist(), strict=True)),
        'boxes_per_frame': {'car': 4.31, 'person': 1.92, 'bicycle': 0.88, 'bus': 0.12, 'train': 0.0},
        'confidence_histogram': {
            'edges': np.linspace(0, 1, 21).tolist(), 'counts': (np.geomspace(1e3, 9e6, 20)).astype(int).tolist(),
        },
        'score_histogram': {
            'edges': np.linspace(0, 1, 21).tolist(),
            'counts': (900 / (1 + np.arange(20)) + 40 * np.exp(-((np.arange(20) - 16) ** 2) / 6)).astype(int).tolist(),
        },
    }  # fmt: skip


def _timeline(random: np.random.Generator) -> dict[str, Any]:
    starts = np.arange(0, 30, BIN_S)
    skipped = np.zeros(len(starts), int)
    skipped[[22, 23, 41]] = (2, 1, 1)
    latency = 108 + 6 * np.sin(starts / 4) + random.normal(0, 3, len(starts))
    sizes = np.stack([5 + 2 * np.sin(starts / (3 + i) + i) for i in range(10)]) * np.geomspace(1, 0.05, 10)[:, None]
    sizes /= sizes.sum(axis=0)
    return {
        't_s': starts.tolist(), 'bin_s': BIN_S, 'processed': (5 - skipped).tolist(), 'skipped': skipped.tolist(),
        'latency_ms': [None if i == 50 else value for i, value in enumerate(latency.tolist())],
        'miou': (0.66 + 0.05 * np.sin(starts / 5) + random.normal(0, 0.01, len(starts))).tolist(),
        'pq': (0.51 + 0.04 * np.sin(starts / 5 + 0.3)).tolist(),
        'mask_agreement': (0.96 + random.normal(0, 0.005, len(starts))).tolist(),
        'boxes': (7 + 2 * np.sin(starts / 6)).tolist(),
        'class_share': dict(zip(CITYSCAPES_19.names, sizes.tolist(), strict=False)),
    }  # fmt: skip


def add_worst_frames(report: dict[str, Any], folder: Path, count: int = 2) -> None:
    """Pictures of invented frames, as files in `folder` and as entries of the report."""
    for index in range(count):
        picture = f'worst/{index}.jpg'
        write_image(folder / picture, render_worst(**example_frame(index)))
        report['worst'].append({
            'picture': picture, 'camera': '', 'stamp_ns': 1_700_000_000_123_456_789 + index * 10**8, 'measure': 'mIoU',
            'value': 0.312 + 0.02 * index, 'caption': 'frame 17',
        })  # fmt: skip


def example_frame(seed: int) -> Mapping[str, Any]:
    """Arguments of `render_worst`: an image of blocks, its ground truth, and a prediction that is off."""
    random = np.random.default_rng(seed)
    height, width = 512, 1024
    truth = np.full((height, width), 10, np.uint8)  # sky
    truth[200:] = 2  # building
    truth[330:] = 0  # road
    truth[330:360] = 1  # sidewalk
    truth[500:] = 255
    boxes = np.array([(120, 300, 300, 420), (640, 280, 700, 430), (820, 320, 980, 410)], np.float32)
    for box, class_id in zip(boxes.astype(int), (13, 11, 13), strict=True):
        truth[box[1] : box[3], box[0] : box[2]] = class_id
    palette = CITYSCAPES_19.color_table()
    noise = random.normal(0, 12, (height, width, 1))
    image = np.clip(palette[truth] * 0.5 + 90 + noise, 0, 255).astype(np.uint8)
    semantic = np.roll(truth, (6, 14), (0, 1))
    semantic[semantic == 255] = 0
    semantic[330:380, 400:600] = 8
    found = boxes[:2] + random.normal(0, 4, (2, 4)).astype(np.float32)
    return {
        'image': image,
        'pred_scene': Scene(
            (height, width),
            semantic=semantic,
            detections=Detections(
                np.concatenate((found, [[420, 300, 470, 400]])).astype(np.float32),
                np.array([2, 0, 0]),
                np.array([0.93, 0.71, 0.4], np.float32),
            ),
        ),
        'truth_scene': Scene(
            (height, width), truth, detections=Detections(boxes, np.array([2, 0, 2]), np.ones(3, np.float32))
        ),
        'labels': LABELS,
        'truth_labels': LABELS,
    }
