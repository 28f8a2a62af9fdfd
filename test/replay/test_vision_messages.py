from __future__ import annotations

from pathlib import Path

import pytest
from rosbags.typesys import get_types_from_msg

from sembox_ros.replay.vision_messages import DEFINITIONS, create_typestore

FOLDER = Path(__file__).parents[2] / 'underlay' / 'vision_msgs' / 'msg'


@pytest.mark.parametrize('name', DEFINITIONS)
def test_definitions_are_those_of_the_package(name: str) -> None:
    full = f'vision_msgs/msg/{name}'
    text = (FOLDER / f'{name}.msg').read_text()
    assert create_typestore().fielddefs[full] == get_types_from_msg(text, full)[full]


def test_the_store_writes_and_reads_boxes() -> None:
    store = create_typestore()
    types = {name: store.types[f'vision_msgs/msg/{name}'] for name in DEFINITIONS}
    header = store.types['std_msgs/msg/Header'](store.types['builtin_interfaces/msg/Time'](3, 4), 'left')
    message = types['LabelInfo'](header=header, class_map=[types['VisionClass'](7, 'ünder')], threshold=0.5)
    raw = store.serialize_cdr(message, 'vision_msgs/msg/LabelInfo')
    assert store.deserialize_cdr(bytes(raw), 'vision_msgs/msg/LabelInfo') == message
    assert store.generate_msgdef('vision_msgs/msg/Detection2DArray')[0].count('MSG: vision_msgs/') == 7 - 1
