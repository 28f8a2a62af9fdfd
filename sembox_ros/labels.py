"""Label sets: what a class id means, what colour it gets, and how boxes and masks are linked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from sembox_ros import label_tables
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
        semantic: classes of the mask; None for a network that only detects.
        detection: classes of the boxes; may be a different vocabulary (COCO boxes beside Cityscapes masks).
        thing_links: detection class id -> semantic class id, for classes that both know.
    """

    semantic: LabelSet | None
    detection: LabelSet
    thing_links: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for det_id, sem_id in self.thing_links.items():
            if not (0 <= det_id < len(self.detection) and 0 <= sem_id < len(self.semantic_names)):
                raise ConfigError(
                    f'thing_links: {det_id} -> {sem_id} is outside the label sets '
                    f"'{self.detection.name}' and '{self.semantic.name if self.semantic else 'none'}'"
                )
        object.__setattr__(self, 'thing_links', MappingProxyType(dict(self.thing_links)))

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only mapping cannot be pickled, and data loading sends datasets with their labels to processes.
        return SceneLabels, (self.semantic, self.detection, dict(self.thing_links))

    @property
    def semantic_names(self) -> tuple[str, ...]:
        """Names of the mask's classes; empty for a network that only detects."""
        return self.semantic.names if self.semantic else ()

    @property
    def has_instances(self) -> bool:
        """Whether any box's class is one of the mask's, so that instances have pixels."""
        return bool(self.thing_links)

    @classmethod
    def linked_by_name(cls, semantic: LabelSet | None, detection: LabelSet) -> SceneLabels:
        """Link every detection class to the thing class of its name, or to what this mask vocabulary calls it."""
        things = {n: i for i, n in enumerate(semantic.names) if semantic.is_thing[i]} if semantic else {}
        synonyms = label_tables.THING_SYNONYMS.get(semantic.name, {}) if semantic else {}
        links = {i: things[synonyms.get(n, n)] for i, n in enumerate(detection.names) if synonyms.get(n, n) in things}
        return cls(semantic=semantic, detection=detection, thing_links=links)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, the inverse of `from_dict`."""
        return {
            'semantic': self.semantic.to_dict() if self.semantic else None,
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
                semantic=None if data['semantic'] is None else LabelSet.from_dict(data['semantic']),
                detection=LabelSet.from_dict(data['detection']),
                thing_links={int(k): int(v) for k, v in data['thing_links'].items()},
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ConfigError(f'scene labels: expected semantic, detection and thing_links; {error!r}') from error


def _voc_colors(start: int, stop: int) -> tuple[tuple[int, int, int], ...]:
    """Entries start..stop-1 of the PASCAL VOC colour map (0 is black): neighbours in id differ in colour."""
    colors = []
    for index in range(start, stop):
        rgb, rest = [0, 0, 0], index
        for shift in range(7, -1, -1):
            for channel in range(3):
                rgb[channel] |= ((rest >> channel) & 1) << shift
            rest >>= 3
        colors.append((rgb[0], rgb[1], rgb[2]))
    return tuple(colors)


def _from_rows(name: str, rows: Iterable[label_tables.Row]) -> LabelSet:
    """The label set of a table; row i is class i."""
    names, palette, is_thing = zip(*rows, strict=True)
    return LabelSet(name=name, names=names, palette=palette, is_thing=is_thing)


CITYSCAPES_19 = _from_rows('cityscapes_19', label_tables.CITYSCAPES)
CITYSCAPES_20 = _from_rows('cityscapes_20', (*label_tables.CITYSCAPES, ('void', (0, 0, 0), False)))
# "Cityscapes 8" may mean the 8 categories (with cityscapesScripts' categoryId as id, so 0 is void) or the 8 thing
# classes that have instances; both are here under names of their own. The official scores of categories leave void out.
CITYSCAPES_8 = _from_rows('cityscapes_8', label_tables.CITYSCAPES_CATEGORIES)
CITYSCAPES_7 = _from_rows('cityscapes_7', label_tables.CITYSCAPES_CATEGORIES[1:])
CITYSCAPES_THINGS_8 = _from_rows('cityscapes_things_8', (row for row in label_tables.CITYSCAPES if row[2]))

COCO_90 = LabelSet(name='coco_90', names=label_tables.COCO_90_NAMES, palette=_voc_colors(1, 91), is_thing=(True,) * 90)
# A class has the same colour in both COCO sets.
COCO_80 = _from_rows(
    'coco_80',
    (
        row
        for row in zip(COCO_90.names, COCO_90.palette, COCO_90.is_thing, strict=True)
        if row[0] not in label_tables.COCO_UNUSED
    ),
)

COCO_133 = _from_rows(
    'coco_133',
    (
        *((n, c, True) for n, c in zip(COCO_80.names, label_tables.COCO_PANOPTIC_THING_COLORS, strict=True)),
        *((name, color, False) for _, name, color in label_tables.COCO_PANOPTIC_STUFF),
    ),
)

VOC_21 = LabelSet(
    name='voc_21', names=label_tables.VOC_NAMES, palette=_voc_colors(0, 21), is_thing=(False, *(True,) * 20)
)
VOC_20 = LabelSet(name='voc_20', names=VOC_21.names[1:], palette=VOC_21.palette[1:], is_thing=VOC_21.is_thing[1:])
ADE20K_150 = _from_rows('ade20k_150', label_tables.ADE20K)
ADE20K_32 = _from_rows(
    'ade20k_32', (('background', (0, 0, 0), False), *label_tables.ADE20K[: label_tables.ADE20K_FREQUENT])
)
KITTI_19 = _from_rows('kitti_19', label_tables.CITYSCAPES)  # its semantics benchmark uses Cityscapes' definitions
KITTI_ROAD_2 = _from_rows('kitti_road_2', label_tables.KITTI_ROAD)
KITTI_LANE_2 = _from_rows('kitti_lane_2', label_tables.KITTI_LANE)

LABEL_SETS: Mapping[str, LabelSet] = MappingProxyType(
    {
        s.name: s
        for s in (
            CITYSCAPES_19, CITYSCAPES_20, CITYSCAPES_8, CITYSCAPES_7, CITYSCAPES_THINGS_8, COCO_90, COCO_80, COCO_133,
            VOC_21, VOC_20, ADE20K_150, ADE20K_32, KITTI_19, KITTI_ROAD_2, KITTI_LANE_2,
        )
    }
)  # fmt: skip


def load_label_set(name: str) -> LabelSet:
    """The label set of that name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in LABEL_SETS:
        raise ConfigError(f"label set '{name}' is unknown, expected one of: {', '.join(LABEL_SETS)}")
    return LABEL_SETS[name]


# Masks + boxes, by name: 'cityscapes_19+coco_90'. Boxes of a class without a link belong to no class of the mask.
SCENE_LABELS: dict[str, SceneLabels] = {
    f'{semantic.name}+{detection.name}': SceneLabels.linked_by_name(semantic, detection)
    for semantic, detection in (
        *((s, d) for s in (CITYSCAPES_19, CITYSCAPES_20, CITYSCAPES_8, CITYSCAPES_7) for d in (COCO_90, COCO_80)),
        *((s, d) for s in (COCO_133, VOC_21, ADE20K_150, ADE20K_32) for d in (COCO_90, COCO_80)),
        *((s, d) for s in (KITTI_19, KITTI_ROAD_2, KITTI_LANE_2) for d in (COCO_90, COCO_80)),
        *((s, CITYSCAPES_THINGS_8) for s in (CITYSCAPES_19, CITYSCAPES_20, CITYSCAPES_8, CITYSCAPES_7, KITTI_19)),
        (VOC_21, VOC_20),
    )
}


def load_scene_labels(name: str) -> SceneLabels:
    """The pair of label sets of that name, with its thing-class map.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in SCENE_LABELS:
        raise ConfigError(f"label pair '{name}' is unknown, expected one of: {', '.join(SCENE_LABELS)}")
    return SCENE_LABELS[name]
