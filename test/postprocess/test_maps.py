from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sembox_ros.ops.placement import Placement, place_image
from sembox_ros.postprocess.maps import decode_depth, decode_motion

STRIDE_4 = ((128, 256),)


@pytest.mark.parametrize(
    ('image_hw', 'mode'), [((128, 256), 'stretch'), ((270, 480), 'letterbox'), ((90, 60), 'stretch')]
)
def test_depth_is_the_log_resized_to_the_canvas_cut_and_resized_to_the_image(image_hw: tuple[int, int], mode: str):
    placement = place_image(image_hw, (128, 256), mode)
    log_depth = torch.randn(1, 32, placement.canvas_hw[1] // 4, generator=torch.Generator().manual_seed(1)) + 2
    height, width = placement.scaled_hw
    canvas = F.interpolate(log_depth[None], placement.canvas_hw, mode='bilinear')[:, :, :height, :width]
    expected = F.interpolate(canvas, image_hw, mode='bilinear')[0, 0].exp().numpy()
    depth = decode_depth(log_depth, placement, sizes_hw=(placement.canvas_hw,))
    assert depth.dtype == np.float32
    assert depth.shape == image_hw
    assert np.abs(depth / expected - 1).max() < 1e-4


def test_depth_does_not_depend_on_the_size_of_the_camera_s_images():
    log_depth = torch.full((1, 32, 64), math.log(12.5))
    for image_hw in ((64, 128), (128, 256), (1024, 2048)):
        depth = decode_depth(log_depth, place_image(image_hw, (128, 256), 'letterbox'), sizes_hw=STRIDE_4)
        assert depth.shape == image_hw
        assert np.allclose(depth, 12.5)


def test_depth_is_positive_and_finite_whatever_the_network_says():
    values = torch.tensor([[[1e9, -1e9, math.inf, -math.inf, math.nan, 0.0]]])
    depth = decode_depth(values[..., [5]], Placement((1, 1), (1, 1), (1, 1)))
    assert depth.tolist() == [[1.0]]
    for index in range(5):
        [[metres]] = decode_depth(values[..., [index]], Placement((1, 1), (1, 1), (1, 1)))
        assert 1e-5 < metres < 1e5


def test_motion_is_where_the_resized_logit_is_positive():
    logits = torch.full((1, 32, 64), -3.0)
    logits[:, :, 32:] = 3.0
    moves = decode_motion(logits, Placement((256, 512), (128, 256), (128, 256)), sizes_hw=STRIDE_4)
    assert moves.dtype == np.bool_
    assert moves.shape == (256, 512)
    assert not moves[:, :256].any()
    assert moves[:, 256:].all()


def test_motion_that_is_no_number_is_none():
    assert not decode_motion(torch.full((1, 2, 2), math.nan), Placement((4, 4), (4, 4), (4, 4))).any()
