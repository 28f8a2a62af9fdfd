"""An image and its labels, moved together: what transforms are made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
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
from sembox_ros.ops.flow import resize_flow

# What a part of a view has where there is no image.
_FILL = {'image': 0, 'semantic': IGNORE_ID, 'boxes': 0, 'instances': 0, 'depth': 0, 'flow': 0, 'motion': IGNORE_ID}


@dataclass(frozen=True)
class View:
    """Image, labels and boxes as torchvision's types; every step below turns all of them alike.

    Attributes:
        image: (3, h, w) uint8, later float32.
        semantic: (h, w) uint8.
        boxes: (N, 4) float32, not clipped.
        instances: (h, w) int32, as torch does little with uint16.
        depth: (h, w) float32 metres, 0 = unknown; no step changes its values.
        flow: (2, h, w) float32 dx, dy in pixels of the view: they change with it.
        motion: (h, w) uint8.
    """

    image: tv_tensors.Image
    semantic: tv_tensors.Mask | None
    boxes: tv_tensors.BoundingBoxes | None
    instances: tv_tensors.Mask | None
    depth: tv_tensors.Mask | None
    flow: tv_tensors.Mask | None
    motion: tv_tensors.Mask | None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width now."""
        return self.image.shape[-2], self.image.shape[-1]

    def resized(self, size_hw: tuple[int, int]) -> View:
        """Scaled: bilinear with antialiasing as in inference, labels by the nearest pixel centre."""
        if size_hw == self.size_hw:
            return self

        def resize(name: str, part: tv_tensors.TVTensor) -> tv_tensors.TVTensor:
            if name == 'image':
                # The kernel that inference uses: vision.resize would go through float on some processors.
                pixels = F.interpolate(part.as_subclass(Tensor)[None], size_hw, mode='bilinear', antialias=True)[0]
                return tv_tensors.wrap(pixels, like=part)
            if name == 'flow':
                return tv_tensors.wrap(resize_flow(part.as_subclass(Tensor), size_hw), like=part)
            return vision.resize(part, size_hw, interpolation=InterpolationMode.NEAREST_EXACT)

        return self._each(resize)

    def cropped(self, top: int, left: int, height: int, width: int) -> View:
        """The window; views of the pixels, boxes may reach outside."""
        return self._each(lambda _, part: vision.crop(part, top, left, height, width))

    def flipped(self) -> View:
        """Left and right swapped."""
        return self._each(lambda _, part: vision.horizontal_flip(part))._with_flow_by(((-1.0, 0.0), (0.0, 1.0)))

    def padded(self, canvas_hw: tuple[int, int]) -> View:
        """On a canvas, in its top left corner; classes and motion 255, all else 0 elsewhere."""
        height, width = self.size_hw
        if canvas_hw == (height, width):
            return self
        padding = [0, 0, canvas_hw[1] - width, canvas_hw[0] - height]
        return self._each(lambda name, part: vision.pad(part, padding, fill=_FILL[name]))

    def turned(self, degrees: float, shear: float, shift_xy: list[int]) -> View:
        """Rotated and sheared about the centre, then moved; classes and motion 255, all else 0 where nothing lies."""

        def turn(name: str, part: tv_tensors.TVTensor) -> tv_tensors.TVTensor:
            kernel = InterpolationMode.BILINEAR if name == 'image' else InterpolationMode.NEAREST
            return vision.affine(
                part, angle=degrees, translate=shift_xy, scale=1.0, shear=[shear, 0.0], interpolation=kernel,
                fill=_FILL[name],
            )  # fmt: skip

        sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        lean = math.tan(math.radians(shear))
        return self._each(turn)._with_flow_by(((cos, -cos * lean - sin), (sin, -sin * lean + cos)))

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

    def _each(self, move: Callable[[str, tv_tensors.TVTensor], tv_tensors.TVTensor]) -> View:
        """The same with `move(name, part)` for every part that is there."""
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        there = {name: part for name, part in parts.items() if part is not None}
        return dataclasses.replace(self, **{name: move(name, part) for name, part in there.items()})

    def _with_flow_by(self, matrix: tuple[tuple[float, float], tuple[float, float]]) -> View:
        """The same with its flow's vectors multiplied by a matrix."""
        if self.flow is None:
            return self
        turned = torch.einsum('ij,jhw->ihw', torch.tensor(matrix), self.flow.as_subclass(Tensor))
        return dataclasses.replace(self, flow=tv_tensors.wrap(turned, like=self.flow))


def view_of(sample: Sample, channel_order: str) -> View:
    """A sample at its own size.

    Args:
        sample: image and labels.
        channel_order: 'rgb', or 'bgr' for weights that expect it.
    """
    image = np.require(sample.image, requirements=('C', 'W'))
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    boxes, flow = sample.boxes_xyxy, sample.flow
    instances = None if sample.instances is None else sample.instances.astype(np.int32)
    return View(
        image=tv_tensors.Image(pixels.flip(0) if channel_order == 'bgr' else pixels),
        semantic=_mask(sample.semantic),
        boxes=None
        if boxes is None
        else tv_tensors.BoundingBoxes(
            torch.from_numpy(boxes), format='XYXY', canvas_size=image.shape[:2], clamping_mode=None
        ),
        instances=_mask(instances),
        depth=_mask(sample.depth),
        flow=_mask(None if flow is None else np.ascontiguousarray(flow.transpose(2, 0, 1))),
        motion=_mask(sample.motion),
    )


def _mask(values: np.ndarray | None) -> tv_tensors.Mask | None:
    return None if values is None else tv_tensors.Mask(torch.from_numpy(values))
