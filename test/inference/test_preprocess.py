from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sembox_ros.config import IMAGENET_MEAN, IMAGENET_STD, InputConfig
from sembox_ros.errors import InputError
from sembox_ros.inference.preprocess import Preprocessor, check_image
from sembox_ros.ops.placement import Placement, place_image

CPU = torch.device('cpu')


def run(image: np.ndarray, config: InputConfig, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Placement]:
    placement = place_image((image.shape[0], image.shape[1]), config.size_hw, config.resize)
    return Preprocessor(config, device=CPU, dtype=dtype)([image], [placement]), placement


def constant(height: int, width: int, rgb: tuple[int, int, int] = (10, 100, 250)) -> np.ndarray:
    return np.full((height, width, 3), rgb, np.uint8)


def test_fixed_letterbox_has_the_image_top_left_and_zeros_after_normalisation() -> None:
    batch, _ = run(constant(100, 200), InputConfig(size_hw=(256, 256), resize='letterbox_fixed'))
    assert batch.shape == (1, 3, 256, 256)
    assert (batch[:, :, :128] != 0).all()
    assert (batch[:, :, 128:] == 0).all()


def test_constant_image_is_normalised_by_hand() -> None:
    batch, _ = run(constant(100, 300), InputConfig(size_hw=(128, 384)))
    assert batch.shape == (1, 3, 128, 384)
    for channel, (value, mean, std) in enumerate(zip((10, 100, 250), IMAGENET_MEAN, IMAGENET_STD, strict=True)):
        expected = torch.full((128, 384), (value / 255 - mean) / std)
        torch.testing.assert_close(batch[0, channel], expected, atol=1e-5, rtol=1e-5)


def test_other_statistics_are_used() -> None:
    batch, _ = run(constant(128, 128), InputConfig(size_hw=(128, 128), mean=(0.0, 0.0, 1.0), std=(1.0, 2.0, 0.5)))
    expected = torch.tensor([10 / 255, 100 / 255 / 2, (250 / 255 - 1) / 0.5])
    torch.testing.assert_close(batch[0, :, 7, 9], expected)


def test_padding_is_zero_right_and_below() -> None:
    batch, placement = run(constant(300, 320), InputConfig(size_hw=(128, 384)))
    assert placement == Placement((300, 320), (128, 137), (128, 256))
    assert batch[0, :, :, :137].abs().min() > 0.01
    assert not batch[0, :, :, 137:].any()
    batch, placement = run(constant(100, 400), InputConfig(size_hw=(256, 384)))
    assert placement.scaled_hw == (96, 384)
    assert batch[0, :, :96].abs().min() > 0.01
    assert not batch[0, :, 96:].any()


def test_image_of_the_canvas_size_is_taken_pixel_by_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (128, 256, 3), dtype=np.uint8)
    batch, _ = run(image, InputConfig(size_hw=(128, 256), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    np.testing.assert_array_equal((batch[0] * 255).round().permute(1, 2, 0).numpy().astype(np.uint8), image)


def test_bgr_is_rgb_of_the_flipped_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 201, 3), dtype=np.uint8)
    statistics = {'size_hw': (128, 256), 'mean': (0.1, 0.2, 0.3), 'std': (0.4, 0.5, 0.6)}
    rgb, _ = run(image, InputConfig(**statistics))
    bgr, _ = run(image[:, :, ::-1], InputConfig(**statistics, channel_order='bgr'))
    assert torch.equal(rgb, bgr)
    assert not torch.equal(rgb, run(image, InputConfig(**statistics, channel_order='bgr'))[0])


def test_shrinking_averages_and_does_not_skip_pixels() -> None:
    """One white column in eight becomes an eighth of white; without antialiasing it would be missed."""
    image = np.zeros((1024, 1024, 3), np.uint8)
    image[:, ::8] = 255
    batch, _ = run(image, InputConfig(size_hw=(128, 128), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    inside = batch[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inside, torch.full_like(inside, 1 / 8), atol=0.04, rtol=0)


def test_images_of_several_sizes_share_a_canvas() -> None:
    config = InputConfig(size_hw=(128, 256))
    images = [constant(100, 200), constant(50, 99, (0, 0, 0)), constant(128, 256, (255, 255, 255))]
    placements = [place_image((i.shape[0], i.shape[1]), config.size_hw, config.resize) for i in images]
    batch = Preprocessor(config, device=CPU, dtype=torch.float32)(images, placements)
    assert batch.shape == (3, 3, 128, 256)
    for index, image in enumerate(images):
        assert torch.equal(batch[index], run(image, config)[0][0])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_result_has_the_networks_dtype_and_is_channels_last(dtype: torch.dtype) -> None:
    config = InputConfig(size_hw=(128, 256))
    image = np.random.default_rng(0).integers(0, 256, (90, 201, 3), dtype=np.uint8)
    batch, _ = run(image, config, dtype)
    assert batch.dtype == dtype
    assert batch.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(batch.float(), run(image, config)[0], atol=0.02, rtol=0.01)


@pytest.mark.filterwarnings('ignore:The given NumPy array is not writable')
def test_views_and_read_only_images_are_taken_and_left_alone() -> None:
    config = InputConfig(size_hw=(128, 256))
    image = np.random.default_rng(0).integers(0, 256, (90, 201, 3), dtype=np.uint8)
    view = np.asfortranarray(image)[::-1, ::2]
    assert torch.equal(run(view, config)[0], run(view.copy(), config)[0])
    frozen = image.copy()
    frozen.flags.writeable = False
    assert torch.equal(run(frozen, config)[0], run(image, config)[0])


@pytest.mark.parametrize(
    ('image', 'words'),
    [
        (None, ('numpy array', 'NoneType')),
        ([[0, 0, 0]], ('numpy array', 'list')),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), ('numpy array', 'Tensor')),
        (np.zeros((4, 5), np.uint8), ('(H, W, 3)', '(4, 5)')),
        (np.zeros((4, 5, 4), np.uint8), ('(H, W, 3)', '(4, 5, 4)')),
        (np.zeros((1, 4, 5, 3), np.uint8), ('(H, W, 3)', '(1, 4, 5, 3)')),
        (np.zeros((4, 5, 3), np.float32), ('uint8', 'float32')),
        (np.zeros((0, 5, 3), np.uint8), ('at least one pixel', '0x5')),
        (np.zeros((4, 0, 3), np.uint8), ('at least one pixel', '4x0')),
    ],
)
def test_what_is_no_image_is_refused(image: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        check_image(image)
    for word in ('image:', *words):
        assert word in str(caught.value)


def test_one_pixel_is_an_image() -> None:
    check_image(np.zeros((1, 1, 3), np.uint8))


def test_flow_lies_behind_the_image_scaled_with_it_and_in_the_networks_units() -> None:
    config = InputConfig(size_hw=(256, 512))
    image = constant(100, 400)  # fits as 128x512, on a trimmed canvas
    placement = place_image((100, 400), config.size_hw, config.resize)
    flow = np.tile(np.array([8.0, -2.0], np.float32), (100, 400, 1))
    preprocess = Preprocessor(config, device=CPU, dtype=torch.float32)
    batch = preprocess([image], [placement], [flow])
    assert batch.shape == (1, 5, 128, 512)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(batch[:, :3], preprocess([image], [placement]))
    expected = torch.tensor([8.0, -2.0]) * (512 / 400) * 32 / 256  # of the configured canvas, not of the trimmed one
    torch.testing.assert_close(batch[0, 3:], expected[:, None, None].expand(2, 128, 512))


def test_padding_has_no_flow() -> None:
    config = InputConfig(size_hw=(128, 128), resize='letterbox_fixed')
    placement = place_image((64, 128), config.size_hw, config.resize)
    flow = np.ones((64, 128, 2), np.float32)
    batch = Preprocessor(config, device=CPU, dtype=torch.float32)([constant(64, 128)], [placement], [flow])
    assert (batch[:, 3:, :64] > 0).all()
    assert not batch[:, :, 64:].any()
