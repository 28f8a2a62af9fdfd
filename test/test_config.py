from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros import config as config_module
from sembox_ros.config import (
    Checked,
    DetectionConfig,
    InputConfig,
    ModelConfig,
    NodeConfig,
    find_shared,
    from_mapping,
    option,
    suggest,
)
from sembox_ros.errors import ConfigError

CONFIGS = (ModelConfig, InputConfig, DetectionConfig, NodeConfig)
LIMITED = [
    (kind, field)
    for kind in CONFIGS
    for field in dataclasses.fields(kind)
    if field.metadata['minimum'] is not None or field.metadata['maximum'] is not None
]
# A limit that no other default goes with.
BESIDE = {'image_classes': {'box_head': False, 'semantic_classes': 0}}


@pytest.mark.parametrize('kind', CONFIGS)
def test_defaults_are_valid_and_described(kind: type) -> None:
    kind()
    for field in dataclasses.fields(kind):
        assert len(field.metadata['description']) > 5, field.name


@pytest.mark.parametrize(('kind', 'field'), LIMITED, ids=lambda x: getattr(x, 'name', getattr(x, '__name__', '')))
def test_limits_are_inclusive_and_named(kind: type, field: dataclasses.Field[Any]) -> None:
    step = 1 if isinstance(field.default, int) else 1e-3
    for limit, outside in ((field.metadata['minimum'], -step), (field.metadata['maximum'], step)):
        beside = BESIDE.get(field.name, {}) if limit else {}
        assert getattr(kind(**{field.name: limit, **beside}), field.name) == limit
        with pytest.raises(ConfigError, match=rf'^{field.name}: expected a value in .*, got '):
            kind(**{field.name: limit + outside})


@pytest.mark.parametrize(
    ('kind', 'values', 'words'),
    [
        (DetectionConfig, {'max_detections': 5.0}, ('max_detections', 'int', 'float')),
        (DetectionConfig, {'max_detections': True}, ('max_detections', 'int', 'bool')),
        (DetectionConfig, {'max_detections': '5'}, ('max_detections', 'int', 'str')),
        (DetectionConfig, {'score_threshold': True}, ('score_threshold', 'float', 'bool')),
        (DetectionConfig, {'score_threshold': '0.4'}, ('score_threshold', 'float', 'str')),
        (DetectionConfig, {'score_threshold': None}, ('score_threshold', 'float', 'NoneType')),
        (DetectionConfig, {'score_threshold': float('nan')}, ('score_threshold', 'finite')),
        (DetectionConfig, {'score_threshold': float('inf')}, ('score_threshold', 'finite')),
        (DetectionConfig, {'score_threshold': 10**400}, ('score_threshold',)),
        (NodeConfig, {'autostart': 1}, ('autostart', 'bool', 'int')),
        (NodeConfig, {'autostart': 'true'}, ('autostart', 'bool', 'str')),
        (NodeConfig, {'device': 0}, ('device', 'str', 'int')),
        (NodeConfig, {'precision': 'fp61'}, ('precision', 'auto, fp32, fp16, bf16', 'fp61', 'did you mean fp16?')),
        (NodeConfig, {'cameras': 'front'}, ('cameras', 'list', 'str', 'front')),
        (NodeConfig, {'cameras': ('front', 1)}, ('cameras', 'relative', '1')),
        (NodeConfig, {'cameras': ('a', 'b/c', 'a', 'b/c')}, ('cameras', 'once', 'a, b/c')),
        (NodeConfig, {'cameras': tuple('ab') * 40}, ('cameras', 'once')),
        (NodeConfig, {'max_batch': 2.0}, ('max_batch', 'int', 'float')),
        (NodeConfig, {'input_transport': 'zzz'}, ('input_transport', 'auto, raw, compressed', 'zzz')),
        (InputConfig, {'resize': 'Letterbox'}, ('resize', 'did you mean letterbox?')),
        (InputConfig, {'channel_order': 'gbr'}, ('channel_order', 'rgb, bgr')),
        (InputConfig, {'size_hw': (512, 1000)}, ('size_hw', '128', '1000')),
        (InputConfig, {'size_hw': (0, 128)}, ('size_hw', '128')),
        (InputConfig, {'size_hw': (-128, 128)}, ('size_hw', '128')),
        (InputConfig, {'size_hw': (8320, 128)}, ('size_hw', '8192')),
        (InputConfig, {'size_hw': (128,)}, ('size_hw', 'two whole numbers')),
        (InputConfig, {'size_hw': (128.0, 128)}, ('size_hw', 'two whole numbers')),
        (InputConfig, {'size_hw': 512}, ('size_hw', 'tuple', 'int')),
        (InputConfig, {'size_hw': '512'}, ('size_hw', 'tuple', 'str')),
        (InputConfig, {'mean': (0.5, 0.5)}, ('mean', 'three finite numbers')),
        (InputConfig, {'mean': (0.5, 0.5, float('nan'))}, ('mean', 'three finite numbers')),
        (InputConfig, {'mean': (0.5, 0.5, '0.5')}, ('mean', 'three finite numbers')),
        (InputConfig, {'std': (0.5, 0.5, float('inf'))}, ('std', 'three finite numbers')),
        (InputConfig, {'std': (0.5, 0.0, 0.5)}, ('std', 'positive')),
        (ModelConfig, {'separate_semantic_neck': 1}, ('separate_semantic_neck', 'bool')),
    ],
)
def test_wrong_value_is_refused_with_its_name(kind: type, values: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**values)
    message = str(caught.value)
    assert '\n' not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    'name',
    ['', '/front', 'front/', 'a//b', '1st', 'a/2', 'left camera', '~/front', 'a-b', 'kä', 'a\n', '{node}', 'a.b'],
)
def test_a_camera_name_that_is_no_relative_topic_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r'^cameras: expected relative topic names') as caught:
        NodeConfig(cameras=('front', name))
    assert repr(name) in str(caught.value)


@given(st.lists(st.from_regex(r'\A[a-zA-Z_][a-zA-Z0-9_]*(/[a-zA-Z_][a-zA-Z0-9_]*){0,2}\Z'), max_size=5, unique=True))
def test_camera_names_keep_their_order(names: list[str]) -> None:
    assert from_mapping(NodeConfig, {'cameras': names}).cameras == tuple(names)


def test_int_becomes_float_where_a_float_is_wanted() -> None:
    value = DetectionConfig(score_threshold=1).score_threshold
    assert value == 1.0
    assert isinstance(value, float)


@pytest.mark.parametrize('name', ['nms_iou_threshold', 'max_detections', 'score_threshold'])
def test_node_config_shares_the_thresholds_of_detection_config(name: str) -> None:
    assert getattr(NodeConfig(), name) == getattr(DetectionConfig(), name)


def test_configs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DetectionConfig().max_detections = 3  # type: ignore[misc]


def test_from_mapping_turns_lists_into_tuples() -> None:
    config = from_mapping(InputConfig, {'size_hw': [256, 384], 'mean': [0, 0.5, 1]})
    assert config == InputConfig(size_hw=(256, 384), mean=(0, 0.5, 1))
    assert isinstance(config.size_hw, tuple)


def test_from_mapping_names_the_unknown_option_and_a_close_one() -> None:
    with pytest.raises(ConfigError, match=re.escape("DetectionConfig: unknown option 'score_treshold'")) as caught:
        from_mapping(DetectionConfig, {'score_treshold': 0.1})
    assert 'did you mean score_threshold?' in str(caught.value)
    assert 'max_detections' in str(caught.value)


@settings(deadline=None)
@given(
    values=st.dictionaries(
        st.sampled_from([f.name for kind in CONFIGS for f in dataclasses.fields(kind)]) | st.text(max_size=8),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.lists(st.integers(), max_size=3),
        max_size=4,
    ),
    kind=st.sampled_from(CONFIGS),
)
def test_any_mapping_gives_a_config_or_a_config_error(values: dict[str, Any], kind: type) -> None:
    try:
        config = from_mapping(kind, values)
    except ConfigError:
        return
    # What was accepted is what is there, and it is accepted again.
    assert kind(**dataclasses.asdict(config)) == config
    for name, value in values.items():
        assert getattr(config, name) == (tuple(value) if isinstance(value, list) else value)


def test_round_trip_through_a_mapping() -> None:
    for kind in CONFIGS:
        assert from_mapping(kind, dataclasses.asdict(kind())) == kind()


def test_suggest_needs_a_close_word() -> None:
    assert suggest('sembox_b1', ['sembox_b1x', 'other']) == ' (did you mean sembox_b1x?)'
    assert suggest('zzz', ['sembox_b1']) == ''


def test_option_without_limits_takes_anything_of_its_type() -> None:
    @dataclasses.dataclass(frozen=True)
    class Free(Checked):
        number: int = option(3, 'any whole number')

    assert Free(number=-(10**30)).number == -(10**30)


def test_find_shared_looks_beside_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'sembox_ros').mkdir()
    (tmp_path / 'weights').mkdir()
    monkeypatch.setattr(config_module, '__file__', str(tmp_path / 'sembox_ros' / 'config.py'))
    assert find_shared('weights') == tmp_path / 'weights'
    assert find_shared('weights/none.safetensors') is None


def test_find_shared_looks_in_the_install_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / 'lib' / 'python3.12' / 'site-packages' / 'sembox_ros'
    share = tmp_path / 'share' / 'sembox_ros' / 'weights'
    code.mkdir(parents=True)
    share.mkdir(parents=True)
    monkeypatch.setattr(config_module, '__file__', str(code / 'config.py'))
    assert find_shared('weights') == share
