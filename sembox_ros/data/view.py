"""An image and its labels, moved together: what transforms are made of."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from sembox_ros.data.sample import Sample
from sembox_ros.labels import IGNORE_ID
from sembox_ros.ops.boxes import clip_boxes


@dataclass(frozen=True)
class View:
    """Image, labels and boxes as torchvision's types; every step below turns all of them alike.

    Attributes:
        image: (3, h, w) uint8, later float32.
        semantic: (h, w) uint8.
        boxes: (N, 4) float32, not clipped.
        instances: (h, w) int32, as torch does little with uint16.
    """

    image: tv_tensors.Image
    semantic: tv_tensors.Mask | None
    boxes: tv_tensors.BoundingBoxes | None
    instances: tv_tensors.Mask | None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width now."""
        return self.image.shape[-2], self.image.shape[-1]

    def resized(self, size_hw: tuple[int, int]) -> View:
        """Scaled: bilinear with antialiasing as in inference, labels by the nearest pixel centre."""
        if size_hw == self.size_hw:
            return self
        exact = InterpolationMode.NEAREST_EXACT
        # The kernel that inference uses: vision.resize would go through float on some processors.
        pixels = F.interpolate(self.image.as_subclass(Tensor)[None], size_hw, mode='bilinear', antialias=True)[0]
        return View(
            image=tv_tensors.wrap(pixels, like=self.image),
            semantic=None if self.semantic is None else vision.resize(self.semantic, size_hw, interpolation=exact),
            boxes=None if self.boxes is None else vision.resize(self.boxes, size_hw),
            instances=None if self.instances is None else vision.resize(self.instances, size_hw, interpolation=exact),
        )

    def cropped(self, top: int, left: int, height: int, width: int) -> View:
        """The window; views of the pixels, boxes may reach outside."""
        parts = (vision.crop(part, top, left, height, width) if part is not None else None for part in self._parts())
        return View(*parts)

    def flipped(self) -> View:
        """Left and right swapped."""
        return View(*(vision.horizontal_flip(part) if part is not None else None for part in self._parts()))

    def padded(self, canvas_hw: tuple[int, int]) -> View:
        """On a canvas, in its top left corner; image and instances 0, classes 255 elsewhere."""
        height, width = self.size_hw
        if canvas_hw == (height, width):
            return self
        padding = [0, 0, canvas_hw[1] - width, canvas_hw[0] - height]
        return View(
            image=vision.pad(self.image, padding, fill=0),
            semantic=None if self.semantic is None else vision.pad(self.semantic, padding, fill=IGNORE_ID),
            boxes=None if self.boxes is None else vision.pad(self.boxes, padding),
            instances=None if self.instances is None else vision.pad(self.instances, padding, fill=0),
        )

    def turned(self, degrees: float, shear: float, shift_xy: list[int]) -> View:
        """Rotated and sheared about the centre, then moved; image and instances 0, classes 255 where nothing lies."""
        place = {'angle': degrees, 'translate': shift_xy, 'scale': 1.0, 'shear': [shear, 0.0]}
        bilinear = InterpolationMode.BILINEAR
        return View(
            image=vision.affine(self.image, **place, interpolation=bilinear, fill=0),
            semantic=None if self.semantic is None else vision.affine(self.semantic, **place, fill=IGNORE_ID),
            boxes=None if self.boxes is None else vision.affine(self.boxes, **place),
            instances=None if self.instances is None else vision.affine(self.instances, **place, fill=0),
        )

    def normalized(self, mean: Tensor, inverse_std: Tensor) -> View:
        """(pixels - mean) * inverse_std, in units of 0..255, both (3, 1, 1)."""
        pixels = (self.image.as_subclass(Tensor).float() - mean) * inverse_std
        return dataclasses.replace(self, image=tv_tensors.wrap(pixels, like=self.image))

    def clipped(self) -> View:
        """Boxes cut at the border."""
        if self.boxes is None:
            return self
        boxes = clip_boxes(self.boxes.as_subclass(Tensor), self.size_hw)
        return dataclasses.replace(self, boxes=tv_tensors.wrap(boxes, like=self.boxes))

    def areas(self) -> Tensor:
        """(N,) areas of the boxes, reaching outside or not."""
        boxes = torch.zeros(0, 4) if self.boxes is None else self.boxes.as_subclass(Tensor)
        return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)

    def _parts(self) -> tuple[tv_tensors.TVTensor | None, ...]:
        return self.image, self.semantic, self.boxes, self.instances


def view_of(sample: Sample, channel_order: str) -> View:
    """A sample at its own size.

    Args:
        sample: image and labels.
        channel_order: 'rgb', or 'bgr' for weights that expect it.
    """
    image = np.require(sample.image, requirements=('C', 'W'))
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    boxes = sample.boxes_xyxy
    return View(
        image=tv_tensors.Image(pixels.flip(0) if channel_order == 'bgr' else pixels),
        semantic=None if sample.semantic is None else tv_tensors.Mask(torch.from_numpy(sample.semantic)),
        boxes=None
        if boxes is None
        else tv_tensors.BoundingBoxes(
            torch.from_numpy(boxes), format='XYXY', canvas_size=image.shape[:2], clamping_mode=None
        ),
        instances=None
        if sample.instances is None
        else tv_tensors.Mask(torch.from_numpy(sample.instances.astype(np.int32))),
    )
