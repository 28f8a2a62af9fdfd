"""Where an image goes on the network's canvas, for training and inference alike."""

from __future__ import annotations

from dataclasses import dataclass

from sembox_ros.errors import InputError
from sembox_ros.ops.resize import fit_within

TRIM_DIVISOR = 128  # p7's stride: a trimmed canvas still halves exactly down every pyramid level


@dataclass(frozen=True)
class Placement:
    """Where an image lies on the network's canvas: scaled, in the top left corner.

    Attributes:
        image_hw: size of the image, in pixels.
        scaled_hw: its size on the canvas.
        canvas_hw: size of the canvas, at least `scaled_hw`; the rest is padding.
    """

    image_hw: tuple[int, int]
    scaled_hw: tuple[int, int]
    canvas_hw: tuple[int, int]

    def __post_init__(self) -> None:
        if not all(1 <= s <= c for s, c in zip(self.scaled_hw, self.canvas_hw, strict=True)):
            raise InputError(f'scaled_hw: expected 1x1 up to the canvas {self.canvas_hw}, got {self.scaled_hw}')

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Pixels of the image per pixel of the canvas, horizontally and vertically."""
        return self.image_hw[1] / self.scaled_hw[1], self.image_hw[0] / self.scaled_hw[0]


def place_image(image_hw: tuple[int, int], canvas_hw: tuple[int, int], mode: str) -> Placement:
    """Where an image of that size goes.

    Letterbox keeps the aspect ratio and trims the canvas to what the image covers, rounded up to a multiple of
    128, so that a 4:3 image does not pay for the padding of a 2:1 canvas. Letterbox_fixed keeps all of the canvas,
    for networks of one size and for batches of images of several shapes. Stretch fills the canvas.

    Args:
        image_hw: size of the image, in pixels.
        canvas_hw: size of the whole canvas.
        mode: 'letterbox', 'letterbox_fixed' or 'stretch', as `InputConfig.resize`.

    Raises:
        InputError: another mode.
    """
    if mode == 'stretch':
        return Placement(image_hw, scaled_hw=canvas_hw, canvas_hw=canvas_hw)
    scaled_hw = fit_within(image_hw, canvas_hw)
    if mode == 'letterbox_fixed':
        return Placement(image_hw, scaled_hw=scaled_hw, canvas_hw=canvas_hw)
    if mode != 'letterbox':
        raise InputError(f"mode: expected letterbox, letterbox_fixed or stretch, got '{mode}'")
    height, width = (-(-s // TRIM_DIVISOR) * TRIM_DIVISOR for s in scaled_hw)
    return Placement(image_hw, scaled_hw=scaled_hw, canvas_hw=(height, width))
