"""Label sets: what a class id means, what colour it gets, and how boxes and masks are linked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from sembox_ros.errors import ConfigError

IGNORE_ID = 255


@dataclass(frozen=True)
class LabelSet:
    """Names, colours and thing/stuff split of consecutive class ids 0..K-1.

    Attributes:
        name: identifier of the set, e.g. ``cityscapes_19``.
        names: K class names, unique.
        palette: K colours, (r, g, b) each 0..255.
        is_thing: K flags; True for countable classes (things), False for stuff.
        ignore_id: id of unlabeled pixels, outside 0..K-1.

    Raises:
        ConfigError: lengths differ, names repeat, or a colour or the ignore id is out of range.
    """

    name: str
    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    is_thing: tuple[bool, ...]
    ignore_id: int = IGNORE_ID

    def __post_init__(self) -> None:
        count = len(self.names)
        if not 0 < count <= IGNORE_ID:
            raise ConfigError(f"label set '{self.name}': expected 1 to {IGNORE_ID} names, got {count}")
        if len(self.palette) != count or len(self.is_thing) != count:
            raise ConfigError(
                f"label set '{self.name}': names, palette and is_thing must have one length, "
                f'got {count}, {len(self.palette)} and {len(self.is_thing)}'
            )
        if len(set(self.names)) != count:
            repeated = sorted({n for n in self.names if self.names.count(n) > 1})
            raise ConfigError(f"label set '{self.name}': names must be unique, repeated: {', '.join(repeated)}")
        if any(len(c) != 3 or not all(0 <= v <= 255 for v in c) for c in self.palette):
            raise ConfigError(f"label set '{self.name}': palette needs (r, g, b) colours with values 0..255")
        if 0 <= self.ignore_id < count or not 0 <= self.ignore_id <= 255:
            raise ConfigError(f"label set '{self.name}': ignore_id {self.ignore_id} must be in {count}..255")

    def __len__(self) -> int:
        return len(self.names)

    def color_table(self) -> np.ndarray:
        """Lookup table (256, 3) uint8 rgb from id to colour; ids outside the set are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = np.asarray(self.palette, np.uint8)
        return table

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, the inverse of `from_dict`."""
        return {
            'name': self.name,
            'names': list(self.names),
            'palette': [list(c) for c in self.palette],
            'is_thing': list(self.is_thing),
            'ignore_id': self.ignore_id,
        }

    @classmethod
    def from_dict(cls, data: Any) -> LabelSet:
        """Build from `to_dict`'s form.

        Raises:
            ConfigError: a field is missing or has the wrong type.
        """
        try:
            return cls(
                name=str(data['name']),
                names=tuple(str(n) for n in data['names']),
                palette=tuple((int(r), int(g), int(b)) for r, g, b in data['palette']),
                is_thing=tuple(bool(t) for t in data['is_thing']),
                ignore_id=int(data['ignore_id']),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f'label set: expected name, names, palette, is_thing and ignore_id; {error!r}') from error


@dataclass(frozen=True)
class SceneLabels:
    """The two label sets of one network and the thing classes that link them.

    Attributes:
        semantic: classes of the mask.
        detection: classes of the boxes; may be a different vocabulary (COCO boxes beside Cityscapes masks).
        thing_links: detection class id -> semantic class id, for classes that both know.
    """

    semantic: LabelSet
    detection: LabelSet
    thing_links: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for det_id, sem_id in self.thing_links.items():
            if not (0 <= det_id < len(self.detection) and 0 <= sem_id < len(self.semantic)):
                raise ConfigError(
                    f'thing_links: {det_id} -> {sem_id} is outside the label sets '
                    f"'{self.detection.name}' and '{self.semantic.name}'"
                )
        object.__setattr__(self, 'thing_links', MappingProxyType(dict(self.thing_links)))

    @classmethod
    def linked_by_name(cls, semantic: LabelSet, detection: LabelSet) -> SceneLabels:
        """Link every detection class to the semantic thing class of the same name."""
        things = {n: i for i, n in enumerate(semantic.names) if semantic.is_thing[i]}
        links = {i: things[n] for i, n in enumerate(detection.names) if n in things}
        return cls(semantic=semantic, detection=detection, thing_links=links)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, the inverse of `from_dict`."""
        return {
            'semantic': self.semantic.to_dict(),
            'detection': self.detection.to_dict(),
            'thing_links': {str(k): v for k, v in self.thing_links.items()},
        }

    @classmethod
    def from_dict(cls, data: Any) -> SceneLabels:
        """Build from `to_dict`'s form.

        Raises:
            ConfigError: a field is missing or has the wrong type.
        """
        try:
            return cls(
                semantic=LabelSet.from_dict(data['semantic']),
                detection=LabelSet.from_dict(data['detection']),
                thing_links={int(k): int(v) for k, v in data['thing_links'].items()},
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ConfigError(f'scene labels: expected semantic, detection and thing_links; {error!r}') from error


def _distinct_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """The PASCAL VOC colour map, skipping its black first entry: neighbours in id differ in colour."""
    colors = []
    for index in range(1, count + 1):
        rgb, rest = [0, 0, 0], index
        for shift in range(7, -1, -1):
            for channel in range(3):
                rgb[channel] |= ((rest >> channel) & 1) << shift
            rest >>= 3
        colors.append((rgb[0], rgb[1], rgb[2]))
    return tuple(colors)


# Cityscapes train ids, names and colours as its label definition lists them.
_CITYSCAPES: tuple[tuple[str, tuple[int, int, int], bool], ...] = (
    ('road', (128, 64, 128), False),
    ('sidewalk', (244, 35, 232), False),
    ('building', (70, 70, 70), False),
    ('wall', (102, 102, 156), False),
    ('fence', (190, 153, 153), False),
    ('pole', (153, 153, 153), False),
    ('traffic light', (250, 170, 30), False),
    ('traffic sign', (220, 220, 0), False),
    ('vegetation', (107, 142, 35), False),
    ('terrain', (152, 251, 152), False),
    ('sky', (70, 130, 180), False),
    ('person', (220, 20, 60), True),
    ('rider', (255, 0, 0), True),
    ('car', (0, 0, 142), True),
    ('truck', (0, 0, 70), True),
    ('bus', (0, 60, 100), True),
    ('train', (0, 80, 100), True),
    ('motorcycle', (0, 0, 230), True),
    ('bicycle', (119, 11, 32), True),
)

CITYSCAPES_19 = LabelSet(
    name='cityscapes_19',
    names=tuple(name for name, _, _ in _CITYSCAPES),
    palette=tuple(color for _, color, _ in _CITYSCAPES),
    is_thing=tuple(thing for _, _, thing in _CITYSCAPES),
)

CITYSCAPES_20 = LabelSet(
    name='cityscapes_20',
    names=(*CITYSCAPES_19.names, 'void'),
    palette=(*CITYSCAPES_19.palette, (0, 0, 0)),
    is_thing=(*CITYSCAPES_19.is_thing, False),
)

CITYSCAPES_THINGS_8 = LabelSet(
    name='cityscapes_things_8',
    names=tuple(name for name, _, thing in _CITYSCAPES if thing),
    palette=tuple(color for _, color, thing in _CITYSCAPES if thing),
    is_thing=(True,) * 8,
)

# COCO category ids 1..90 of the 2014 paper, shifted to 0..89; ten of them never got annotations
# (street sign, hat, ...), but networks trained on "90 classes" have outputs for them.
_COCO_90_NAMES = (
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat', 'traffic light',
    'fire hydrant', 'street sign', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog', 'horse', 'sheep',
    'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'hat', 'backpack', 'umbrella', 'shoe', 'eye glasses',
    'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard', 'sports ball', 'kite', 'baseball bat',
    'baseball glove',
    'skateboard', 'surfboard', 'tennis racket', 'bottle', 'plate', 'wine glass', 'cup', 'fork', 'knife', 'spoon',
    'bowl', 'banana', 'apple', 'sandwich', 'orange', 'broccoli', 'carrot', 'hot dog', 'pizza', 'donut',
    'cake', 'chair', 'couch', 'potted plant', 'bed', 'mirror', 'dining table', 'window', 'desk', 'toilet',
    'door', 'tv', 'laptop', 'mouse', 'remote', 'keyboard', 'cell phone', 'microwave', 'oven', 'toaster',
    'sink', 'refrigerator', 'blender', 'book', 'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush',
)  # fmt: skip

COCO_90 = LabelSet(
    name='coco_90',
    names=_COCO_90_NAMES,
    palette=_distinct_palette(90),
    is_thing=(True,) * 90,
)

LABEL_SETS: Mapping[str, LabelSet] = MappingProxyType(
    {s.name: s for s in (CITYSCAPES_19, CITYSCAPES_20, CITYSCAPES_THINGS_8, COCO_90)}
)


def load_label_set(name: str) -> LabelSet:
    """The label set of that name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in LABEL_SETS:
        raise ConfigError(f"label set '{name}' is unknown, expected one of: {', '.join(LABEL_SETS)}")
    return LABEL_SETS[name]
