from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sembox_ros.data.geometry_files import (
    camera_file,
    decode_disparity,
    decode_flow,
    encode_disparity,
    encode_flow,
    read_depth,
    read_flow,
    read_focal_baseline,
    read_motion,
)
from sembox_ros.errors import DatasetError

SIZE_HW = (6, 8)


def write_camera(path: Path, **changes: Any) -> Path:
    """A camera file of 100 px m, with `fx` or `baseline` changed."""
    content = camera_file(focal_px=500.0, principal_xy=(3.5, 2.5), baseline_m=0.2, height_m=1.5)
    for name, value in changes.items():
        content['intrinsic' if name == 'fx' else 'extrinsic'][name] = value
    path.write_text(json.dumps(content))
    return path


@given(
    disparity=arrays.arrays(np.float32, (3, 4), elements=st.floats(0.125, 255.5, width=32)), factor=st.floats(5, 900)
)
def test_depth_comes_back_to_half_a_step_of_disparity(disparity: np.ndarray, factor: float) -> None:
    depth = np.float32(factor) / disparity
    again = decode_disparity(encode_disparity(depth, factor), factor)
    np.testing.assert_allclose(factor / again, disparity, atol=0.5 / 256 + 1e-4)


def test_depth_that_is_too_near_for_the_file_becomes_unknown() -> None:
    assert encode_disparity(np.array([[100 / 256.1, 100 / 255.9]], np.float32), 100.0).tolist() == [[0, 65511]]


def test_unknown_depth_stays_unknown() -> None:
    depth = np.array([[0.0, 10.0]], np.float32)
    stored = encode_disparity(depth, 100.0)
    assert stored.tolist() == [[0, 10 * 256 + 1]]
    assert decode_disparity(np.array([[0, 1, 2561]], np.uint16), 100.0).tolist() == [[0.0, 0.0, 10.0]]


@given(flow=arrays.arrays(np.float32, (3, 4, 2), elements=st.floats(-511, 511, width=32)))
def test_flow_comes_back_to_half_a_step(flow: np.ndarray) -> None:
    stored = encode_flow(flow)
    assert (stored[..., 2] == 1).all()
    np.testing.assert_allclose(decode_flow(stored), flow, atol=0.5 / 64 + 1e-6)


@given(dx=st.floats(512, 1e6, width=32), dy=st.floats(-511, 511, width=32), sign=st.sampled_from([-1.01, 1]))
def test_flow_that_is_too_large_for_the_file_becomes_unknown(dx: float, dy: float, sign: float) -> None:
    for vector in ((sign * dx, dy), (dy, sign * dx)):
        stored = encode_flow(np.array([[vector]], np.float32))
        assert stored.tolist() == [[[0, 0, 0]]]
        assert decode_flow(stored).tolist() == [[[0.0, 0.0]]]


def test_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    depth, flow = rng.uniform(2, 80, SIZE_HW).astype(np.float32), rng.uniform(-99, 99, (*SIZE_HW, 2)).astype(np.float32)
    camera = write_camera(tmp_path / 'camera.json')
    cv2.imwrite(str(tmp_path / 'disparity.png'), encode_disparity(depth, 100.0))
    cv2.imwrite(str(tmp_path / 'flow.png'), encode_flow(flow)[..., ::-1])  # OpenCV writes the last channel first
    read = read_depth(tmp_path / 'disparity.png', camera, SIZE_HW, 'remedy')
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, depth, rtol=0.002)
    read = read_flow(tmp_path / 'flow.png', SIZE_HW)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, flow, atol=1 / 64)


def test_motion_is_read_as_stored_and_checked(tmp_path: Path) -> None:
    motion = np.array([[0, 1, 255]], np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), motion)
    np.testing.assert_array_equal(read_motion(tmp_path / 'a.png', (1, 3)), motion)
    cv2.imwrite(str(tmp_path / 'a.png'), motion // 2)
    with pytest.raises(DatasetError, match=r'a\.png: expected values 0, 1 and 255, got 127'):
        read_motion(tmp_path / 'a.png', (1, 3))


@pytest.mark.parametrize(
    ('pixels', 'words'),
    [
        (np.zeros(SIZE_HW, np.uint16), 'three channels of uint16 values, got 1 of uint16'),
        (np.zeros((*SIZE_HW, 3), np.uint8), 'got 3 of uint8'),
        (np.zeros((*SIZE_HW, 4), np.uint16), 'got 4 of uint16'),
        (np.zeros((6, 9, 3), np.uint16), '6x8 pixels .*, got 6x9'),
    ],
)
def test_other_images_are_no_flow(tmp_path: Path, pixels: np.ndarray, words: str) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    with pytest.raises(DatasetError, match=rf'a\.png: .*{words}'):
        read_flow(tmp_path / 'a.png', SIZE_HW)


@pytest.mark.parametrize(
    ('pixels', 'words'),
    [(np.zeros(SIZE_HW, np.uint8), 'uint16 ids, got 1 of uint8'), (np.zeros((7, 8), np.uint16), '6x8 .* got 7x8')],
)
def test_other_images_are_no_disparity(tmp_path: Path, pixels: np.ndarray, words: str) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    with pytest.raises(DatasetError, match=rf'a\.png: .*{words}'):
        read_depth(tmp_path / 'a.png', write_camera(tmp_path / 'camera.json'), SIZE_HW, 'remedy')


@pytest.mark.parametrize(('name', 'value'), [
    ('fx', 0), ('fx', -3.0), ('fx', '2262'), ('fx', True), ('fx', float('nan')), ('fx', 10**400), ('baseline', None),
    ('baseline', [0.2]),
])  # fmt: skip
def test_a_camera_without_focal_length_or_baseline_is_named(tmp_path: Path, name: str, value: Any) -> None:
    path = write_camera(tmp_path / 'camera.json', **{name: value})
    with pytest.raises(DatasetError, match=rf'camera\.json: \w+\.{name}: expected a number above 0.* remedy$'):
        read_focal_baseline(path, 'remedy')


@settings(deadline=None, max_examples=50)
@given(content=st.one_of(
    st.binary(max_size=40), st.just(b'{}'), st.just(b'{"intrinsic": 3}'), st.just(b'[]'), st.just(b'[' * 5000),
))  # fmt: skip
def test_any_other_file_is_no_camera(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp('camera') / 'camera.json'
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r'camera\.json'):
        read_focal_baseline(path, 'remedy')


def test_a_missing_camera_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'camera\.json.* remedy'):
        read_focal_baseline(tmp_path / 'camera.json', 'remedy')
