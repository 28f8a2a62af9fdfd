"""From uint8 images to the network's normalised canvas."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sembox_ros.config import InputConfig
from sembox_ros.errors import InputError
from sembox_ros.ops.flow import normalise_flow, resize_flow
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


class Preprocessor:
    """Scales, normalises and pads images. Its buffer is reused: what a call returns is overwritten by the next.

    The bytes go to the device as they are; on CUDA, scaling and normalising happen there. Scaling is bilinear with
    antialiasing. Padding is zero after normalisation, that is, the mean colour.

    Args:
        config: normalisation and channel order.
        device: where the result lies.
        dtype: floating type of the result.
    """

    def __init__(self, config: InputConfig, *, device: torch.device, dtype: torch.dtype) -> None:
        self._config, self._device, self._dtype = config, device, dtype
        mean, inverse_std = torch.tensor(config.mean) * 255, 1 / (torch.tensor(config.std) * 255)
        self._mean, self._inverse_std = (values.to(device).view(3, 1, 1) for values in (mean, inverse_std))
        # On the CPU the 256 normalised values of each channel are looked up, which is faster than computing them.
        table = (torch.arange(256)[:, None].float() - mean) * inverse_std
        self._table = table[:, None].contiguous().numpy()  # (256, 1, 3)
        self._canvas = torch.zeros(0)

    def __call__(
        self, images: Sequence[np.ndarray], placements: Sequence[Placement], flows: Sequence[np.ndarray] | None = None
    ) -> Tensor:
        """Make the network's input of images that share one canvas size.

        Args:
            images: (H, W, 3) uint8 rgb each, sizes may differ.
            placements: of each image, with one common `canvas_hw`.
            flows: of each image, (h, w, 2) float32 in pixels of its own size, any; for networks that see it.

        Returns:
            (B, 3, canvas height, canvas width), channels-last in memory; with flow (B, 5, ...).
        """
        shape = (len(images), *placements[0].canvas_hw, 3)
        if self._canvas.shape != shape:
            self._canvas = torch.zeros(shape, dtype=self._dtype, device=self._device)
        fill = self._fill_here if self._device.type == 'cpu' and self._dtype == torch.float32 else self._fill_there
        for canvas, image, placement in zip(self._canvas, images, placements, strict=True):
            height, width = placement.scaled_hw
            canvas[height:] = 0  # where an image of another shape was before
            canvas[:height, width:] = 0
            fill(canvas[:height, :width], image)
        canvases = self._canvas.permute(0, 3, 1, 2)
        if flows is None:
            return canvases
        fields = [self._place_flow(flow, placement) for flow, placement in zip(flows, placements, strict=True)]
        return torch.cat((canvases, torch.stack(fields)), dim=1).to(memory_format=torch.channels_last)

    def _place_flow(self, flow: np.ndarray, placement: Placement) -> Tensor:
        """(h, w, 2) to (2, canvas height, canvas width) as the network takes it; none in the padding."""
        field = torch.from_numpy(np.ascontiguousarray(flow)).to(self._device).permute(2, 0, 1)
        field = normalise_flow(resize_flow(field, placement.scaled_hw), self._config.size_hw[0])
        height, width = (canvas - s for canvas, s in zip(placement.canvas_hw, placement.scaled_hw, strict=True))
        return F.pad(field, (0, width, 0, height)).to(self._dtype)

    def _fill_here(self, canvas: Tensor, image: np.ndarray) -> None:
        """Scale and normalise into `canvas` (h, w, 3) in the CPU's memory."""
        if image.shape != canvas.shape:
            # torch scales uint8 with antialiasing; it wants contiguous and writable memory, anything else is copied.
            pixels = torch.from_numpy(np.require(image, requirements=('C', 'W'))).permute(2, 0, 1)[None]
            scaled = F.interpolate(pixels, size=canvas.shape[:2], mode='bilinear', antialias=True)
            image = scaled[0].permute(1, 2, 0).numpy()
        if self._config.channel_order == 'bgr':
            image = image[:, :, ::-1]
        cv2.LUT(np.ascontiguousarray(image), self._table, dst=canvas.numpy())

    def _fill_there(self, canvas: Tensor, image: np.ndarray) -> None:
        """Scale and normalise into `canvas` (h, w, 3), on its own device."""
        pixels = torch.from_numpy(np.require(image, requirements=('C', 'W')))
        if self._device.type == 'cuda':
            pixels = pixels.pin_memory()  # from there the transfer needs no CPU and waits for nothing
        pixels = pixels.to(self._device, non_blocking=True).permute(2, 0, 1)[None]
        if self._config.channel_order == 'bgr':
            pixels = pixels.flip(1)
        if pixels.shape[2:] != canvas.shape[:2]:  # torch does not scale uint8 on CUDA
            pixels = F.interpolate(pixels.float(), size=canvas.shape[:2], mode='bilinear', antialias=True)
        canvas.copy_(((pixels[0].float() - self._mean) * self._inverse_std).permute(1, 2, 0))
