"""From a labelled image to the network's input: augmented for training, placed as in inference for validation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from sembox_ros.config import Checked, InputConfig, check_size_hw, option
from sembox_ros.data.sample import Sample
from sembox_ros.data.view import View, view_of
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.ops.flow import normalise_flow
from sembox_ros.ops.placement import Placement, place_image
from sembox_ros.ops.resize import fit_within


@dataclass(frozen=True)
class AugmentConfig(Checked):
    """How training images are varied."""

    scale_min: float = option(
        0.5, 'smallest size of the image, relative to the size that just fits the canvas', minimum=0.1, maximum=10.0
    )
    scale_max: float = option(2.0, 'largest size; beyond 1 a random part is cut out', minimum=0.1, maximum=10.0)
    flip_probability: float = option(0.5, 'how often left and right are swapped', minimum=0.0, maximum=1.0)
    brightness: float = option(0.3, 'brightness factor varies by up to this much around 1', minimum=0.0, maximum=1.0)
    contrast: float = option(0.3, 'contrast factor varies by up to this much around 1', minimum=0.0, maximum=1.0)
    saturation: float = option(0.3, 'saturation factor varies by up to this much around 1', minimum=0.0, maximum=1.0)
    hue: float = option(
        0.0, 'hue turns by up to this part of the colour circle; four times the work of all the rest', minimum=0.0,
        maximum=0.5,
    )  # fmt: skip
    color_probability: float = option(1.0, 'how often these four vary', minimum=0.0, maximum=1.0)
    rgb_shift: float = option(
        0.0, 'red, green and blue each move by up to this many of 255', minimum=0.0, maximum=255.0
    )
    rgb_shift_probability: float = option(0.5, 'how often they do', minimum=0.0, maximum=1.0)
    degrees: float = option(0.0, 'the image turns by up to this angle', minimum=0.0, maximum=45.0)
    shear: float = option(0.0, 'the image leans by up to this angle, in degrees', minimum=0.0, maximum=45.0)
    shift: float = option(
        0.0, 'the image moves by up to this share of the canvas, across and down', minimum=0.0, maximum=0.5
    )
    affine_probability: float = option(1.0, 'how often it turns, leans and moves', minimum=0.0, maximum=1.0)
    crop_hw: tuple[int, ...] = option(
        (), 'height and width that are cut out of the scaled canvas to train on; empty: all of it'
    )
    min_box_px: float = option(
        2.0, 'a box with a shorter side on the canvas is ignored: neither object nor background', minimum=0.0,
        maximum=256.0,
    )  # fmt: skip
    min_visible: float = option(
        0.3, 'a box of whose area a smaller part stays on the canvas is ignored', minimum=0.0, maximum=1.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale_min > self.scale_max:
            raise ConfigError(f'scale_min: expected at most scale_max = {self.scale_max}, got {self.scale_min}')
        if self.crop_hw:
            check_size_hw('crop_hw', self.crop_hw)


@dataclass(frozen=True)
class Item:
    """One image as the network takes it; the ids are those of its `Sample`.

    Attributes:
        image: (3, H, W) float32, normalised; zero where padded.
        image_id: name within the dataset.
        semantic: (H, W) uint8, 255 = ignored or padded; None without semantic labels.
        boxes_xyxy: (N, 4) float32 in pixels of the canvas; None, as the next two, without boxes.
        class_ids: (N,) int64.
        is_crowd: (N,) bool; True also for what was cut off too much to be asked for.
        instances: (H, W) int32, k = pixels of the object of box k - 1, 0 = of none; None without, and for validation.
        placement: where the whole image lies; None for training.
        sample: the image and its labels at their own size, to grade predictions by; None for training.
        depth: (H, W) float32 metres, 0 = unknown or padded; None without. What augmentation shows larger is nearer.
        flow: (2, H, W) float32 dx, dy as the network takes them (`ops.flow`), 0 = unknown or padded; None without.
        motion: (H, W) uint8, 1 = moves in the world, 255 = ignored or padded; None without.
    """

    image: Tensor
    image_id: str
    semantic: Tensor | None
    boxes_xyxy: Tensor | None
    class_ids: Tensor | None
    is_crowd: Tensor | None
    instances: Tensor | None = None
    placement: Placement | None = None
    sample: Sample | None = None
    depth: Tensor | None = None
    flow: Tensor | None = None
    motion: Tensor | None = None


_MAPS = ('images', 'semantic', 'instances', 'depth', 'motion')  # of a batch
_OF_BOXES = ('boxes_xyxy', 'class_ids', 'is_crowd')


@dataclass(frozen=True)
class Batch:
    """Several items of one canvas size.

    Attributes:
        images: (B, 3, H, W) float32, normalised, channels-last in memory; (B, 5, H, W) where the dataset gives
            flow: its dx and dy behind the colours.
        semantic: (B, H, W) int64, 255 = ignored; None without semantic labels.
        boxes_xyxy: B times (Ni, 4) float32 in pixels of the canvas; empty, as the next two, without boxes.
        class_ids: B times (Ni,) int64.
        is_crowd: B times (Ni,) bool.
        image_ids: B names.
        instances: (B, H, W) int32, k = pixels of the object of box k - 1 of that image, 0 = of none; None without.
        placements: where each image lies; empty for training.
        samples: each image and its labels at their own size; empty for training.
        depth: (B, H, W) float32 metres, 0 = unknown; None without.
        motion: (B, H, W) int64, 1 = moves in the world, 0 = does not, 255 = ignored; None without.
    """

    images: Tensor
    semantic: Tensor | None
    boxes_xyxy: tuple[Tensor, ...]
    class_ids: tuple[Tensor, ...]
    is_crowd: tuple[Tensor, ...]
    image_ids: tuple[str, ...]
    instances: Tensor | None = None
    placements: tuple[Placement, ...] = ()
    samples: tuple[Sample, ...] = ()
    depth: Tensor | None = None
    motion: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True), boxes=True)

    def pin_memory(self) -> Batch:
        """The same batch with its large tensors in memory that a GPU reads directly; `DataLoader` calls it."""
        return self._each(Tensor.pin_memory, boxes=False)

    def _each(self, move: Callable[[Tensor], Tensor], *, boxes: bool) -> Batch:
        """The same with every map moved, and what belongs to single boxes too if `boxes` is true."""
        moved: dict[str, Any] = {}
        for name in _MAPS:
            maps = getattr(self, name)
            moved[name] = None if maps is None else move(maps)
        for name in _OF_BOXES if boxes else ():
            moved[name] = tuple(move(part) for part in getattr(self, name))
        return dataclasses.replace(self, **moved)


def collate(items: Sequence[Item]) -> Batch:
    """Stack items of one canvas size.

    Raises:
        DatasetError: only some of them have semantic labels, boxes, instances, depth, flow or motion.
    """
    for part in ('semantic', 'boxes_xyxy', 'instances', 'depth', 'flow', 'motion'):
        lacking = [item.image_id for item in items if getattr(item, part) is None]
        if 0 < len(lacking) < len(items):
            raise DatasetError(f'{lacking[0]}: has no {part}, which other images of its batch have')
    images = torch.stack([item.image for item in items])
    flow = _stacked([item.flow for item in items])
    if flow is not None:
        images = torch.cat((images, flow), dim=1)
    semantic, motion = (_stacked([getattr(item, part) for item in items]) for part in ('semantic', 'motion'))
    return Batch(
        images=images.contiguous(memory_format=torch.channels_last),
        semantic=None if semantic is None else semantic.long(),
        boxes_xyxy=tuple(item.boxes_xyxy for item in items if item.boxes_xyxy is not None),
        class_ids=tuple(item.class_ids for item in items if item.class_ids is not None),
        is_crowd=tuple(item.is_crowd for item in items if item.is_crowd is not None),
        image_ids=tuple(item.image_id for item in items),
        instances=_stacked([item.instances for item in items]),
        placements=tuple(item.placement for item in items if item.placement is not None),
        samples=tuple(item.sample for item in items if item.sample is not None),
        depth=_stacked([item.depth for item in items]),
        motion=None if motion is None else motion.long(),
    )


def _stacked(maps: Sequence[Tensor | None]) -> Tensor | None:
    """The maps of all items as one tensor; None where they have none."""
    there = [values for values in maps if values is not None]
    return torch.stack(there) if there else None


def _statistics(mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation in units of 0..255, (3, 1, 1) each; rounded as inference rounds them."""
    return torch.tensor(mean).view(3, 1, 1) * 255, 1 / (torch.tensor(std).view(3, 1, 1) * 255)


class TrainTransform:
    """Random scale, crop, flip, turn and colours.

    Args:
        size_hw: canvas.
        augment: how much varies.
        mean: subtracted per channel, after scaling to 0..1.
        std: divided by per channel.
        channel_order: 'rgb', or 'bgr' for weights that expect it.
        resize: 'stretch' fills the canvas as inference then does; other modes keep the aspect ratio.
    """

    def __init__(
        self,
        *,
        size_hw: tuple[int, int],
        augment: AugmentConfig,
        mean: Sequence[float],
        std: Sequence[float],
        channel_order: str = 'rgb',
        resize: str = 'letterbox',
    ) -> None:
        self.size_hw = size_hw
        self.augment = augment
        height, width = augment.crop_hw or size_hw
        self._crop_hw = height, width
        self._stretch = resize == 'stretch'
        self._channel_order = channel_order
        self._mean, self._inverse_std = _statistics(mean, std)
        self._colors = v2.ColorJitter(augment.brightness, augment.contrast, augment.saturation, augment.hue)

    def __call__(self, sample: Sample, seed: int) -> Item:
        """The sample as the network takes it; the same sample and seed give the same item anywhere.

        Args:
            sample: image and labels.
            seed: what the random choices follow from; a resumed run repeats them by repeating the seed.
        """
        # torchvision draws from torch's global generator. Not torch.manual_seed: it also reseeds the GPUs.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self._transform(sample)

    def _transform(self, sample: Sample) -> Item:
        augment = self.augment
        view = self._cut_out(view_of(sample, self._channel_order))
        visible, whole = view.clipped(), view.areas()
        share = visible.areas() / whole.clamp(min=1e-6)
        if torch.rand(()) < augment.flip_probability:
            visible = visible.flipped()
        visible = dataclasses.replace(visible, image=self._recolored(visible.image))
        canvas = visible.normalized(self._mean, self._inverse_std).padded(self._crop_hw)
        if (augment.degrees or augment.shear or augment.shift) and _happens(augment.affine_probability):
            turned = canvas.turned(
                _uniform(-augment.degrees, augment.degrees),
                _uniform(-augment.shear, augment.shear),
                [round(_uniform(-augment.shift, augment.shift) * size) for size in reversed(self._crop_hw)],
            )
            canvas = turned.clipped()
            share = share * canvas.areas() / turned.areas().clamp(min=1e-6)
        return self._item(sample, canvas, share)

    def _recolored(self, image: Tensor) -> Tensor:
        """Colours of (3, h, w) uint8 varied."""
        augment = self.augment
        if _happens(augment.color_probability):
            image = self._colors(image)
        if augment.rgb_shift and _happens(augment.rgb_shift_probability):
            shift = ((2 * torch.rand(3, 1, 1) - 1) * augment.rgb_shift).round().to(torch.int16)
            image = tv_tensors.wrap((image.to(torch.int16) + shift).clamp(0, 255).to(torch.uint8), like=image)
        return image

    def _cut_out(self, view: View) -> View:
        """A random part of the image at a random scale, at most as large as what is trained on.

        The window is cut before it is scaled, so that no pixel is scaled in vain; its edges are whole pixels of
        the image, which changes the scale by less than a pixel of the window. What looks larger than in the whole
        image, as inference will show it, looks nearer: depth is divided by the scale.
        """
        factor = math.exp(_uniform(math.log(self.augment.scale_min), math.log(self.augment.scale_max)))
        wanted_hw = round(self.size_hw[0] * factor), round(self.size_hw[1] * factor)
        if not self._stretch:
            wanted_hw = fit_within(view.size_hw, wanted_hw)
        window, scaled = [], []
        for size, wanted, most in zip(view.size_hw, wanted_hw, self._crop_hw, strict=True):
            kept = min(wanted, most)
            length = min(size, max(1, round(size * kept / wanted)))
            window.append((int(torch.randint(size - length + 1, ())), length))
            scaled.append(kept)
        (top, height), (left, width) = window
        cut = view.cropped(top, left, height, width).resized((scaled[0], scaled[1]))
        if cut.depth is None:
            return cut
        return dataclasses.replace(cut, depth=tv_tensors.wrap(cut.depth / factor, like=cut.depth))

    def _item(self, sample: Sample, canvas: View, share: Tensor) -> Item:
        boxes = class_ids = is_crowd = instances = None
        if canvas.boxes is not None and sample.class_ids is not None and sample.is_crowd is not None:
            boxes = canvas.boxes.as_subclass(Tensor)
            sides = boxes[:, 2:] - boxes[:, :2]
            kept = (sides > 0).all(dim=1)
            # Too little to be asked for, but not background either.
            doubtful = (sides < self.augment.min_box_px).any(dim=1) | (share < self.augment.min_visible)
            boxes = boxes[kept]
            class_ids = torch.from_numpy(sample.class_ids)[kept]
            is_crowd = (torch.from_numpy(sample.is_crowd) | doubtful)[kept]
            instances = None if canvas.instances is None else _renumber(canvas.instances.as_subclass(Tensor), kept)
        return Item(
            image=canvas.image.as_subclass(Tensor),
            image_id=sample.image_id,
            semantic=_plain(canvas.semantic),
            boxes_xyxy=boxes,
            class_ids=class_ids,
            is_crowd=is_crowd,
            instances=instances,
            depth=_plain(canvas.depth),
            flow=_network_flow(canvas, self.size_hw),
            motion=_plain(canvas.motion),
        )


class EvalTransform:
    """The whole image, placed and scaled as inference does, on the whole canvas so that batches stack.

    Args:
        input_config: canvas, resize mode ('letterbox' is not trimmed here), normalisation and channel order.
    """

    def __init__(self, input_config: InputConfig) -> None:
        self.input_config = input_config
        self._mode = 'stretch' if input_config.resize == 'stretch' else 'letterbox_fixed'
        self._mean, self._inverse_std = _statistics(input_config.mean, input_config.std)

    def __call__(self, sample: Sample) -> Item:
        """The sample as the network takes it, with its placement and itself for grading."""
        # Predictions are graded at the image's own size: nobody asks for instances on the canvas.
        view = view_of(dataclasses.replace(sample, instances=None), self.input_config.channel_order)
        placement = place_image(view.size_hw, self.input_config.size_hw, self._mode)
        canvas = view.resized(placement.scaled_hw).normalized(self._mean, self._inverse_std)
        canvas = canvas.padded(placement.canvas_hw)
        return Item(
            image=canvas.image.as_subclass(Tensor),
            image_id=sample.image_id,
            semantic=_plain(canvas.semantic),
            boxes_xyxy=_plain(canvas.boxes),
            class_ids=None if sample.class_ids is None else torch.from_numpy(sample.class_ids),
            is_crowd=None if sample.is_crowd is None else torch.from_numpy(sample.is_crowd),
            placement=placement,
            sample=sample,
            depth=_plain(canvas.depth),
            flow=_network_flow(canvas, self.input_config.size_hw),
            motion=_plain(canvas.motion),
        )


def _network_flow(view: View, size_hw: tuple[int, int]) -> Tensor | None:
    """Flow in the units of inference, whose canvas may be larger than what is cut out of it to train on."""
    return None if view.flow is None else normalise_flow(view.flow.as_subclass(Tensor), size_hw[0])


def _plain(part: Tensor | None) -> Tensor | None:
    """Without torchvision's type."""
    return None if part is None else part.as_subclass(Tensor)


def _renumber(instances: Tensor, kept: Tensor) -> Tensor:
    """(H, W) int32 numbers of boxes, as they are once only the boxes in (N,) bool `kept` are left."""
    if kept.all():
        return instances
    table = torch.zeros(len(kept) + 1, dtype=torch.int32)
    table[1:][kept] = torch.arange(1, int(kept.sum()) + 1, dtype=torch.int32)
    return table.index_select(0, instances.flatten()).view_as(instances)  # table[instances] takes seven times as long


def _happens(probability: float) -> bool:
    """Whether something does; what is certain takes no random number."""
    return probability >= 1.0 or float(torch.rand(())) < probability


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
