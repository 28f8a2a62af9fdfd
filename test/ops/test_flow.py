from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from sembox_ros.ops.flow import FLOW_UNITS, measure_flow, normalise_flow, resize_flow


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


def test_resized_flow_points_to_the_same_place_in_the_resized_image() -> None:
    flow = torch.stack((torch.full((40, 60), 6.0), torch.full((40, 60), -4.0)))
    resized = resize_flow(flow, (20, 90))
    assert resized.shape == (2, 20, 90)
    assert torch.allclose(resized[0], torch.tensor(9.0))
    assert torch.allclose(resized[1], torch.tensor(-2.0))


def test_flow_of_the_same_size_is_left_alone() -> None:
    flow = torch.rand(2, 8, 9)
    assert resize_flow(flow, (8, 9)) is flow


def test_normalised_flow_does_not_depend_on_the_canvas() -> None:
    small, large = torch.tensor([4.0, -2.0]), torch.tensor([8.0, -4.0])
    assert torch.equal(normalise_flow(small, 256), normalise_flow(large, 512))
    assert float(normalise_flow(torch.tensor(16.0), 512)) == FLOW_UNITS / 32
