from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.errors import ConfigError
from sembox_ros.labels import (
    ADE20K_32,
    ADE20K_150,
    CITYSCAPES_7,
    CITYSCAPES_8,
    CITYSCAPES_19,
    CITYSCAPES_20,
    CITYSCAPES_THINGS_8,
    COCO_80,
    COCO_90,
    COCO_133,
    KITTI_19,
    KITTI_LANE_2,
    KITTI_ROAD_2,
    LABEL_SETS,
    SCENE_LABELS,
    VOC_20,
    VOC_21,
    LabelSet,
    SceneLabels,
    load_label_set,
    load_scene_labels,
)

BYTE = st.integers(0, 255)


def pair(**changes: Any) -> LabelSet:
    """A label set of two classes."""
    values: dict[str, Any] = {
        'name': 'pair', 'names': ('road', 'car'), 'palette': ((1, 2, 3), (4, 5, 6)), 'is_thing': (False, True),
    }  # fmt: skip
    return LabelSet(**{**values, **changes})


@st.composite
def label_sets(draw: st.DrawFn) -> LabelSet:
    names = draw(st.lists(st.text(), min_size=1, max_size=40, unique=True))
    count = len(names)
    return LabelSet(
        name=draw(st.text()),
        names=tuple(names),
        palette=tuple(draw(st.lists(st.tuples(BYTE, BYTE, BYTE), min_size=count, max_size=count))),
        is_thing=tuple(draw(st.lists(st.booleans(), min_size=count, max_size=count))),
        ignore_id=draw(st.integers(count, 255)),
    )


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'names': (), 'palette': (), 'is_thing': ()}, ('1 to 255', 'got 0')),
        (
            {'names': tuple(map(str, range(256))), 'palette': ((0, 0, 0),) * 256, 'is_thing': (True,) * 256},
            ('1 to 255', 'got 256'),
        ),
        ({'palette': ((1, 2, 3),)}, ('one length', '2, 1 and 2')),
        ({'is_thing': (True,)}, ('one length', '2, 2 and 1')),
        ({'names': ('car', 'car')}, ('unique', 'car')),
        ({'palette': ((1, 2, 3), (4, 5, 256))}, ('palette', '0..255')),
        ({'palette': ((1, 2, 3), (4, 5, -1))}, ('palette', '0..255')),
        ({'palette': ((1, 2, 3), (4, 5))}, ('palette', '0..255')),
        ({'ignore_id': 1}, ('ignore_id 1', '2..255')),
        ({'ignore_id': 256}, ('ignore_id 256', '2..255')),
        ({'ignore_id': -1}, ('ignore_id -1', '2..255')),
    ],
)
def test_label_set_refuses(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        pair(**changes)
    for word in ("'pair'", *words):
        assert word in str(caught.value)


def test_label_set_takes_255_classes_only_with_an_ignore_id_outside() -> None:
    names, palette = tuple(map(str, range(255))), ((0, 0, 0),) * 255
    assert len(LabelSet(name='full', names=names, palette=palette, is_thing=(True,) * 255)) == 255


def test_label_set_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CITYSCAPES_19.name = 'other'  # type: ignore[misc]


@settings(deadline=None)
@given(labels=label_sets())
def test_label_set_survives_json(labels: LabelSet) -> None:
    assert LabelSet.from_dict(json.loads(json.dumps(labels.to_dict()))) == labels


@settings(deadline=None)
@given(labels=label_sets())
def test_color_table_gives_palette_and_black_elsewhere(labels: LabelSet) -> None:
    table = labels.color_table()
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    assert [tuple(c) for c in table[: len(labels)].tolist()] == list(labels.palette)
    assert not table[len(labels) :].any()


@pytest.mark.parametrize(
    'data',
    [
        None,
        [],
        'text',
        {},
        {**pair().to_dict(), 'names': None},
        {**pair().to_dict(), 'palette': [[1, 2], [3, 4]]},
        {**pair().to_dict(), 'palette': [['r', 'g', 'b'], [1, 2, 3]]},
        {**pair().to_dict(), 'ignore_id': 'none'},
        {**pair().to_dict(), 'ignore_id': float('inf')},
        {**pair().to_dict(), 'is_thing': 1},
        {k: v for k, v in pair().to_dict().items() if k != 'ignore_id'},
    ],
)
def test_label_set_from_dict_refuses_with_config_error(data: Any) -> None:
    with pytest.raises(ConfigError, match='label set'):
        LabelSet.from_dict(data)


def test_known_sets() -> None:
    assert {name: len(labels) for name, labels in LABEL_SETS.items()} == {
        'cityscapes_19': 19, 'cityscapes_20': 20, 'cityscapes_8': 8, 'cityscapes_7': 7, 'cityscapes_things_8': 8,
        'coco_90': 90, 'coco_80': 80, 'coco_133': 133, 'voc_21': 21, 'voc_20': 20, 'ade20k_150': 150, 'ade20k_32': 32,
        'kitti_19': 19, 'kitti_road_2': 2, 'kitti_lane_2': 2,
    }  # fmt: skip
    for name, labels in LABEL_SETS.items():
        assert labels.name == name
        assert load_label_set(name) is labels
        assert labels.ignore_id == 255


def test_cityscapes_ids_and_colours_are_the_published_train_ids() -> None:
    assert CITYSCAPES_19.names[0] == 'road'
    assert CITYSCAPES_19.palette[0] == (128, 64, 128)
    assert CITYSCAPES_19.names[13] == 'car'
    assert CITYSCAPES_19.palette[13] == (0, 0, 142)
    assert [i for i, thing in enumerate(CITYSCAPES_19.is_thing) if thing] == list(range(11, 19))
    assert CITYSCAPES_20.names[:19] == CITYSCAPES_19.names
    assert CITYSCAPES_20.names[19] == 'void'
    assert CITYSCAPES_THINGS_8.names == CITYSCAPES_19.names[11:]


def test_coco_ids_are_the_category_ids_less_one() -> None:
    published = {1: 'person', 2: 'bicycle', 3: 'car', 10: 'traffic light', 13: 'stop sign', 44: 'bottle', 62: 'chair',
                 67: 'dining table', 72: 'tv', 84: 'book', 90: 'toothbrush'}  # fmt: skip
    assert {i: COCO_90.names[i - 1] for i in published} == published
    assert len(set(COCO_90.palette)) == 90
    assert COCO_90.palette[:3] == ((128, 0, 0), (0, 128, 0), (128, 128, 0))  # the PASCAL VOC colour map


def test_coco_80_is_coco_90_less_the_ten_unused_in_the_same_order() -> None:
    assert [n for n in COCO_90.names if n in COCO_80.names] == list(COCO_80.names)
    published = {0: 'person', 9: 'traffic light', 11: 'stop sign', 24: 'backpack', 39: 'bottle', 60: 'dining table',
                 62: 'tv', 73: 'book', 79: 'toothbrush'}  # fmt: skip
    assert {i: COCO_80.names[i] for i in published} == published
    ids = {name: i for i, name in enumerate(COCO_90.names)}
    assert all(COCO_90.palette[ids[n]] == c for n, c in zip(COCO_80.names, COCO_80.palette, strict=True))


def test_coco_133_is_coco_80_and_the_published_stuff() -> None:
    published = {
        0: ('person', (220, 20, 60), True), 2: ('car', (0, 0, 142), True), 79: ('toothbrush', (191, 162, 208), True),
        80: ('banner', (255, 255, 128), False), 100: ('road', (128, 64, 128), False),
        119: ('sky-other-merged', (70, 130, 180), False), 132: ('rug-merged', (250, 141, 255), False),
    }  # fmt: skip
    rows = list(zip(COCO_133.names, COCO_133.palette, COCO_133.is_thing, strict=True))
    assert {i: rows[i] for i in published} == published
    assert COCO_133.names[:80] == COCO_80.names
    assert sum(COCO_133.is_thing) == 80
    assert len(set(COCO_133.palette)) == 133


def test_cityscapes_categories_have_the_published_category_ids() -> None:
    names = ('void', 'flat', 'construction', 'object', 'nature', 'sky', 'human', 'vehicle')
    assert CITYSCAPES_8.names == names
    assert [n for n, thing in zip(names, CITYSCAPES_8.is_thing, strict=True) if thing] == ['human', 'vehicle']
    for field in ('names', 'palette', 'is_thing'):
        assert getattr(CITYSCAPES_7, field) == getattr(CITYSCAPES_8, field)[1:]


def test_voc_ids_and_colours_are_the_published_ones() -> None:
    published = {
        0: ('background', (0, 0, 0)), 1: ('aeroplane', (128, 0, 0)), 5: ('bottle', (128, 0, 128)),
        7: ('car', (128, 128, 128)), 15: ('person', (192, 128, 128)), 20: ('tvmonitor', (0, 64, 128)),
    }  # fmt: skip
    assert {i: (VOC_21.names[i], VOC_21.palette[i]) for i in published} == published
    assert VOC_21.is_thing == (False, *(True,) * 20)


def test_ade20k_ids_colours_and_things_are_the_published_ones() -> None:
    published = {
        0: ('wall', (120, 120, 120), False), 2: ('sky', (6, 230, 230), False), 6: ('road', (140, 140, 140), False),
        7: ('bed', (204, 5, 255), True), 12: ('person', (150, 5, 61), True), 20: ('car', (0, 102, 200), True),
        72: ('palm', (0, 82, 255), True), 136: ('traffic light', (41, 0, 255), True), 149: ('flag', (92, 0, 255), True),
    }  # fmt: skip
    rows = list(zip(ADE20K_150.names, ADE20K_150.palette, ADE20K_150.is_thing, strict=True))
    assert {i: rows[i] for i in published} == published
    assert sum(ADE20K_150.is_thing) == 100


def test_ade20k_32_is_background_and_the_first_31() -> None:
    assert (ADE20K_32.names[0], ADE20K_32.palette[0], ADE20K_32.is_thing[0]) == ('background', (0, 0, 0), False)
    for field in ('names', 'palette', 'is_thing'):
        assert getattr(ADE20K_32, field)[1:] == getattr(ADE20K_150, field)[:31]


def test_kitti() -> None:
    assert dataclasses.replace(KITTI_19, name='cityscapes_19') == CITYSCAPES_19
    assert dict(zip(KITTI_ROAD_2.names, KITTI_ROAD_2.palette, strict=True))['road'] == (255, 0, 255)
    assert not any(KITTI_ROAD_2.is_thing)
    assert KITTI_LANE_2.names == ('not lane', 'lane')
    assert (KITTI_LANE_2.palette, KITTI_LANE_2.is_thing) == (KITTI_ROAD_2.palette, KITTI_ROAD_2.is_thing)


def test_pairs_link_things_to_things_and_know_their_name() -> None:
    for name, labels in SCENE_LABELS.items():
        assert labels.semantic is not None
        assert load_scene_labels(name) is labels
        assert name == f'{labels.semantic.name}+{labels.detection.name}'
        assert all(labels.semantic.is_thing[s] for s in labels.thing_links.values()), name


def links(name: str) -> dict[str, str]:
    labels = load_scene_labels(name)
    assert labels.semantic is not None
    return {labels.detection.names[d]: labels.semantic.names[s] for d, s in labels.thing_links.items()}


def test_coco_boxes_beside_cityscapes_masks() -> None:
    named = SceneLabels.linked_by_name(CITYSCAPES_19, COCO_90)
    assert load_scene_labels('cityscapes_19+coco_90') == named
    assert links('cityscapes_20+coco_80') == links('cityscapes_19+coco_90')
    assert links('kitti_19+coco_80') == links('cityscapes_19+coco_90')
    vehicles = dict.fromkeys(('bicycle', 'car', 'motorcycle', 'bus', 'train', 'truck'), 'vehicle')
    assert links('cityscapes_8+coco_90') == links('cityscapes_7+coco_80') == {'person': 'human', **vehicles}
    assert links('kitti_19+cityscapes_things_8') == {n: n for n in CITYSCAPES_THINGS_8.names}
    assert links('cityscapes_19+cityscapes_things_8') == {n: n for n in CITYSCAPES_THINGS_8.names}


def test_links_across_different_spellings() -> None:
    assert set(links('voc_21+coco_80').values()) == set(VOC_21.names[1:])
    assert links('voc_21+coco_90')['tv'] == 'tvmonitor'
    ade = links('ade20k_150+coco_80')
    assert (ade['couch'], ade['motorcycle'], ade['tv'], ade['car']) == ('sofa', 'minibike', 'television', 'car')
    assert 'potted plant' not in ade  # ADE20K's plant is stuff
    assert links('ade20k_32+coco_80') == {n: {'couch': 'sofa', 'dining table': 'table'}.get(n, n) for n in (
        'person', 'car', 'chair', 'couch', 'bed', 'dining table',
    )}  # fmt: skip
    assert links('voc_21+voc_20') == {n: n for n in VOC_20.names}
    assert links('coco_133+coco_90') == {n: n for n in COCO_80.names}
    assert links('kitti_road_2+coco_80') == {}


def test_unknown_pair_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'cityscapes_19'.*cityscapes_19\+coco_90"):
        load_scene_labels('cityscapes_19')


def test_unknown_label_set_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'cityscape_19'.*cityscapes_19, cityscapes_20"):
        load_label_set('cityscape_19')


def test_links_by_name_join_the_things_that_both_sets_know() -> None:
    labels = SceneLabels.linked_by_name(CITYSCAPES_19, COCO_90)
    names = {COCO_90.names[d]: CITYSCAPES_19.names[s] for d, s in labels.thing_links.items()}
    wanted = ('person', 'bicycle', 'car', 'motorcycle', 'bus', 'train', 'truck')
    assert names == {name: name for name in wanted}  # not traffic light, which is stuff in Cityscapes


def test_links_are_a_frozen_copy() -> None:
    links = {0: 11}
    labels = SceneLabels(CITYSCAPES_19, COCO_90, links)
    links[0] = 0
    assert dict(labels.thing_links) == {0: 11}
    with pytest.raises(TypeError):
        labels.thing_links[1] = 2  # type: ignore[index]


@pytest.mark.parametrize('links', [{90: 11}, {-1: 11}, {0: 19}, {0: -1}])
def test_links_outside_the_sets_are_refused(links: dict[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"thing_links.*'coco_90' and 'cityscapes_19'"):
        SceneLabels(CITYSCAPES_19, COCO_90, links)


def test_scene_labels_survive_json() -> None:
    labels = SceneLabels.linked_by_name(CITYSCAPES_19, COCO_90)
    assert SceneLabels.from_dict(json.loads(json.dumps(labels.to_dict()))) == labels


@pytest.mark.parametrize(
    'change',
    [
        {'semantic': None},
        {'thing_links': []},
        {'thing_links': {'a': 1}},
        {'thing_links': {'0': float('inf')}},
        {'thing_links': {'0': 99}},
    ],
)
def test_scene_labels_from_dict_refuses_with_config_error(change: dict[str, Any]) -> None:
    data = SceneLabels.linked_by_name(CITYSCAPES_19, COCO_90).to_dict()
    with pytest.raises(ConfigError):
        SceneLabels.from_dict({**data, **change})


@pytest.mark.parametrize('name', ['cityscapes_19+cityscapes_things_8', 'ade20k_150+coco_80'])
def test_label_pairs_reach_other_processes(name: str) -> None:
    copy = pickle.loads(pickle.dumps(SCENE_LABELS[name]))
    assert copy == SCENE_LABELS[name]
    assert copy.thing_links == SCENE_LABELS[name].thing_links
