from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sembox_ros.errors import DatasetError
from sembox_ros.replay.bags import choose_image_topic, read_bag, view_image, write_image_bag


def image(seed: int, height: int = 6, width: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stamps=st.lists(st.integers(0, 2**31 * 10**9 - 1), min_size=1, max_size=4, unique=True),
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=4, max_size=4),
)
def test_written_images_are_read_back(tmp_path: Path, stamps, sizes):
    stamps = sorted(stamps)
    frames = [(stamp, image(i, *sizes[i])) for i, stamp in enumerate(stamps)]
    assert write_image_bag(tmp_path / 'bag', frames, topic='/cam', frame_id='f') == len(frames)
    entries = list(read_bag(tmp_path / 'bag'))
    assert [e.stamp_ns for e in entries] == stamps
    for (_, written), entry in zip(frames, entries, strict=True):
        assert (view_image(entry.message) == written).all()


def test_a_bag_is_replaced_but_a_foreign_folder_is_not(tmp_path: Path):
    write_image_bag(tmp_path / 'bag', [(1, image(0)), (2, image(1))], topic='/a')
    write_image_bag(tmp_path / 'bag', [(1, image(0))], topic='/a')
    assert len(list(read_bag(tmp_path / 'bag'))) == 1
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.tex').write_text('x')
    with pytest.raises(DatasetError, match='cannot be written'):
        write_image_bag(tmp_path / 'mine', [(1, image(0))], topic='/a')
    assert (tmp_path / 'mine' / 'thesis.tex').read_text() == 'x'


def test_topics_are_chosen_or_listed(tmp_path: Path):
    write_image_bag(tmp_path / 'bag', [(1, image(0))], topic='/front')
    assert choose_image_topic(tmp_path / 'bag') == ('/front', 'sensor_msgs/msg/Image', 1)
    with pytest.raises(DatasetError, match="no image topic '/rear'; there is: /front"):
        choose_image_topic(tmp_path / 'bag', '/rear')


@pytest.mark.parametrize('content', [b'', b'junk' * 100, b'\x89MCAP0\r\n' + bytes(50)])
def test_a_foreign_or_damaged_file_is_one_clear_error(tmp_path: Path, content):
    (tmp_path / 'x.mcap').write_bytes(content)
    with pytest.raises(DatasetError, match='cannot be read') as caught:
        list(read_bag(tmp_path / 'x.mcap'))
    assert '\n' not in str(caught.value)
    with pytest.raises(DatasetError, match='does not exist'):
        list(read_bag(tmp_path / 'y.mcap'))


def test_a_truncated_bag_is_an_error_and_not_a_crash(tmp_path: Path):
    write_image_bag(tmp_path / 'bag', [(i, image(i, 50, 50)) for i in range(20)], topic='/a')
    [file] = (tmp_path / 'bag').glob('*.mcap')
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DatasetError):
        list(read_bag(tmp_path / 'bag'))


def test_view_image_refuses_what_it_cannot_show(tmp_path: Path):
    write_image_bag(tmp_path / 'bag', [(1, image(0))], topic='/a')
    [entry] = read_bag(tmp_path / 'bag')
    entry.message.encoding = 'bgr8'
    with pytest.raises(DatasetError, match='bgr8'):
        view_image(entry.message)
