from __future__ import annotations

import cv2
import numpy as np
import pytest

from sembox_ros.inference.flow import LastImages, measure_flow


def texture(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)


@pytest.mark.parametrize('scale', [1, 2])
def test_flow_points_to_where_the_picture_was(scale: int):
    large = texture(200, 300)
    current = np.ascontiguousarray(large[20:180, 20:276])
    previous = np.ascontiguousarray(large[16:176, 14:270])  # what is at x was at x + 6, what is at y was at y + 4
    flow = measure_flow(current, previous, (160 // scale, 256 // scale))
    assert flow.dtype == np.float32
    assert flow.shape == (160 // scale, 256 // scale, 2)
    inner = flow[20:-20, 20:-20]
    assert np.abs(np.median(inner, axis=(0, 1)) - np.array([6, 4]) / scale).max() < 0.2


def test_nothing_moves_without_a_previous_image_of_the_same_size():
    image = texture(64, 96)
    for previous in (None, texture(64, 97)):
        flow = measure_flow(image, previous, (32, 48))
        assert flow.shape == (32, 48, 2)
        assert not flow.any()


@pytest.mark.parametrize('size_hw', [(1, 1), (1, 256), (15, 40), (16, 256), (128, 2), (63, 65)])
def test_no_size_is_too_small(size_hw: tuple[int, int]):
    flow = measure_flow(texture(3, 700), texture(3, 700)[::-1], size_hw)
    assert flow.shape == (*size_hw, 2)
    assert np.isfinite(flow).all()


def test_each_camera_has_its_own_last_image_and_old_ones_are_not_given_out():
    last, images = LastImages(), [np.full((2, 2, 3), value, np.uint8) for value in range(6)]
    second = 10**9
    assert last.replace('front', 5 * second, images[0]) is None
    assert last.replace('rear', 5 * second, images[1]) is None
    assert last.replace('front', 5 * second + 10**8, images[2]) is images[0]
    assert last.replace('rear', 5 * second + 5 * 10**8, images[3]) is images[1]
    assert last.replace('front', 5 * second + 10**8, images[4]) is None  # the same stamp again
    assert last.replace('front', 6 * second, images[5]) is None  # 0.9 s later
    assert last.replace('front', 4 * second, images[0]) is None  # time jumps back
    assert last.replace('front', 4 * second + 1, images[1]) is images[0]
