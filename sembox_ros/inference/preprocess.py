"""From uint8 images to the network's normalised canvas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sembox_ros.config import InputConfig
from sembox_ros.errors import InputError
from sembox_ros.ops.placement import Placement


def check_image(image: object) -> None:
    """Refuse anything but a non-empty (H, W, 3) uint8 array.

    Raises:
        InputError: says what it is instead.
    """
    if not isinstance(image, np.ndarray):
        raise InputError(f'image: expected a numpy array (H, W, 3) uint8, got {type(image).__name__}')
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f'image: expected (H, W, 3) uint8 rgb, got {image.shape} {image.dtype}')
    if not image.size:
        raise InputError(f'image: expected at least one pixel, got size {image.shape[0]}x{image.shape[1]}')


def preprocess(
    images: Sequence[np.ndarray],
    placements: Sequence[Placement],
    config: InputConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Scale, normalise and pad images that share one canvas size.

    The bytes go to the device as they are; scaling and normalising happen there. Scaling is bilinear with
    antialiasing. Padding is zero after normalisation, that is, the mean colour.

    Args:
        images: (H, W, 3) uint8 rgb each, sizes may differ.
        placements: of each image, with one common `canvas_hw`.
        config: normalisation and channel order.
        device: where the result lies.
        dtype: floating type of the result.

    Returns:
        (B, 3, canvas height, canvas width), channels-last in memory.
    """
    canvas_hw = placements[0].canvas_hw
    batch = torch.zeros((len(images), 3, *canvas_hw), dtype=dtype, device=device).to(memory_format=torch.channels_last)
    mean = torch.tensor(config.mean, device=device).view(3, 1, 1) * 255
    inverse_std = 1 / (torch.tensor(config.std, device=device).view(3, 1, 1) * 255)
    for canvas, image, placement in zip(batch, images, placements, strict=True):
        # torch wants contiguous and writable memory; anything else is copied.
        pixels = torch.from_numpy(np.require(image, requirements=('C', 'W'))).to(device).permute(2, 0, 1)[None]
        if config.channel_order == 'bgr':
            pixels = pixels.flip(1)
        if placement.scaled_hw != placement.image_hw:
            # torch scales uint8 fast on the CPU and not at all on CUDA.
            pixels = pixels if device.type == 'cpu' else pixels.float()
            pixels = F.interpolate(pixels, size=placement.scaled_hw, mode='bilinear', antialias=True)
        height, width = placement.scaled_hw
        canvas[:, :height, :width] = (pixels[0].float() - mean) * inverse_std
    return batch
