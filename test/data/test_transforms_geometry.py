"""Depth, flow and motion go through the transforms with the image that they belong to."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sembox_ros.config import InputConfig
from sembox_ros.data.sample import Sample
from sembox_ros.data.transforms import AugmentConfig, EvalTransform, Item, TrainTransform, collate
from sembox_ros.data.view import View, view_of
from sembox_ros.errors import DatasetError
from sembox_ros.ops.flow import FLOW_UNITS

STILL: dict[str, Any] = {
    'scale_min': 1.0, 'scale_max': 1.0, 'flip_probability': 0.0, 'brightness': 0.0, 'contrast': 0.0, 'saturation': 0.0,
}  # fmt: skip
CANVAS = (128, 256)


def sample_of(size_hw: tuple[int, int] = CANVAS, *, flow: tuple[float, float] = (5.0, -3.0)) -> Sample:
    """One image of one depth and one flow, whose left third moves."""
    motion = np.zeros(size_hw, np.uint8)
    motion[:, : size_hw[1] // 3] = 1
    return Sample(
        image=np.full((*size_hw, 3), 200, np.uint8),
        image_id='a',
        depth=np.full(size_hw, 20.0, np.float32),
        flow=np.full((*size_hw, 2), flow, np.float32),
        motion=motion,
    )


def train(sample: Sample, seed: int = 0, **augment: Any) -> Item:
    options = AugmentConfig(**{**STILL, **augment})
    return TrainTransform(size_hw=CANVAS, augment=options, mean=(0.0,) * 3, std=(1.0,) * 3)(sample, seed)


def parts(item: Item) -> tuple[Tensor, Tensor, Tensor]:
    """Depth in metres, flow in pixels of the canvas, motion."""
    assert item.depth is not None
    assert item.flow is not None
    assert item.motion is not None
    return item.depth, item.flow * (CANVAS[0] / FLOW_UNITS), item.motion


@pytest.mark.parametrize('name', ['depth', 'flow', 'motion'])
def test_a_part_of_another_size_or_type_is_refused(name: str) -> None:
    sample = sample_of()
    good = getattr(sample, name)
    for bad in (good[:-1], good.astype(np.float64)):
        with pytest.raises(DatasetError, match=f'a: {name}: expected .* got'):
            dataclasses.replace(sample, **{name: bad})


def test_unvaried_parts_arrive_as_they_are() -> None:
    depth, flow, motion = parts(train(sample_of()))
    assert (depth == 20.0).all()
    assert depth.dtype == torch.float32
    assert torch.equal(flow[:, 5, 5], torch.tensor([5.0, -3.0]))
    assert flow.shape == (2, *CANVAS)
    assert motion.dtype == torch.uint8
    assert motion[:, :85].eq(1).all()
    assert motion[:, 85:].eq(0).all()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**63 - 1), scale=st.floats(0.5, 3.0), size=st.sampled_from([(128, 256), (100, 90)]))
def test_what_is_shown_larger_is_nearer_and_moves_faster(seed: int, scale: float, size: tuple[int, int]) -> None:
    depth, flow, motion = parts(train(sample_of(size), seed, scale_min=scale, scale_max=scale))
    inside = motion != 255
    fits = min(CANVAS[0] / size[0], CANVAS[1] / size[1])
    assert torch.allclose(depth[inside], torch.tensor(20.0 / scale))
    assert torch.allclose(flow[0][inside], torch.tensor(5.0 * scale * fits), rtol=0.05)
    assert torch.allclose(flow[1][inside], torch.tensor(-3.0 * scale * fits), rtol=0.05)


def test_a_crop_has_the_flow_of_the_whole_canvas() -> None:
    """What the network sees is the motion relative to the canvas of inference, not to what is cut out of it."""
    sample = sample_of((256, 512))
    whole = train(sample, scale_min=2.0, scale_max=2.0)
    options = AugmentConfig(**STILL, crop_hw=(128, 128))
    crop = TrainTransform(size_hw=(256, 512), augment=options, mean=(0.0,) * 3, std=(1.0,) * 3)(sample, 0)
    assert whole.flow is not None
    assert crop.flow is not None
    assert crop.flow.shape == (2, 128, 128)
    assert torch.equal(crop.flow[:, 5, 5], torch.tensor([5.0, -3.0]) * (FLOW_UNITS / 256))
    assert torch.equal(whole.flow[:, 5, 5], torch.tensor([5.0, -3.0]) * (FLOW_UNITS / 128))


def test_padding_is_unknown_and_ignored() -> None:
    depth, flow, motion = parts(train(sample_of(), scale_min=0.5, scale_max=0.5))
    outside = torch.ones(CANVAS, dtype=torch.bool)
    outside[:64, :128] = False
    assert (depth[outside] == 0).all()
    assert (depth[~outside] > 0).all()
    assert (flow[:, outside] == 0).all()
    assert (flow[:, ~outside] != 0).all()
    assert (motion[outside] == 255).all()
    assert (motion[~outside] < 255).all()


def test_flow_is_mirrored_with_the_image() -> None:
    depth, flow, motion = parts(train(sample_of(), flip_probability=1.0))
    assert torch.equal(flow[:, 7, 9], torch.tensor([-5.0, -3.0]))
    assert motion[:, -85:].eq(1).all()
    assert motion[:, :-85].eq(0).all()
    assert (depth == 20.0).all()


def turned_dot(place_xy: tuple[int, int], degrees: float, shear: float) -> tuple[Tensor, View]:
    """Where a dot of 5x5 pixels at a place comes to lie (x, y), and the view."""
    x, y = place_xy
    sample = sample_of(flow=(24.0, -16.0))
    image = np.zeros_like(sample.image)
    image[y - 2 : y + 3, x - 2 : x + 3] = 255
    view = view_of(dataclasses.replace(sample, image=image), 'rgb').turned(degrees, shear, [0, 0])
    rows, columns = torch.where(view.image[0] > 127)
    return torch.stack((columns.double().mean(), rows.double().mean())), view


@settings(deadline=None, max_examples=25)
@given(degrees=st.floats(-30, 30), shear=st.floats(-20, 20))
def test_turned_flow_still_points_to_the_same_point(degrees: float, shear: float) -> None:
    here, view = turned_dot((120, 70), degrees, shear)
    before, _ = turned_dot((144, 54), degrees, shear)
    assert view.flow is not None
    assert view.depth is not None
    assert view.motion is not None
    column, row = (int(v) for v in here.round())
    assert torch.allclose(view.flow[:, row, column].double(), before - here, atol=0.7)
    outside = view.motion == 255
    assert torch.equal(outside, view.depth == 0)
    assert (view.flow[:, outside] == 0).all()


def test_validation_places_the_parts_with_the_image_and_leaves_depth_in_metres() -> None:
    config = InputConfig(size_hw=CANVAS)
    sample = sample_of((256, 256), flow=(8.0, 4.0))
    item = EvalTransform(config)(sample)
    depth, flow, motion = parts(item)
    assert (depth[:, :128] == 20.0).all()
    assert (depth[:, 128:] == 0).all()
    assert torch.allclose(flow[:, 50, 50], torch.tensor([4.0, 2.0]))
    assert (flow[:, :, 128:] == 0).all()
    assert (motion[:, 128:] == 255).all()
    assert motion[0, 0] == 1
    assert item.sample is sample


def test_a_batch_has_flow_behind_the_colours() -> None:
    items = [train(sample_of(flow=(dx, 1.0))) for dx in (2.0, 4.0)]
    batch = collate(items)
    assert batch.images.shape == (2, 5, *CANVAS)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch.images[:, :3], torch.stack([item.image for item in items]))
    for image, item in zip(batch.images, items, strict=True):
        assert torch.equal(image[3:], item.flow)
    assert batch.depth is not None
    assert batch.depth.shape == (2, *CANVAS)
    assert batch.depth.dtype == torch.float32
    assert batch.motion is not None
    assert batch.motion.shape == (2, *CANVAS)
    assert batch.motion.dtype == torch.int64


def test_a_batch_without_these_parts_has_none() -> None:
    bare = dataclasses.replace(sample_of(), depth=None, flow=None, motion=None)
    batch = collate([train(bare)]).to('cpu')
    assert batch.images.shape == (1, 3, *CANVAS)
    assert batch.depth is None
    assert batch.motion is None


@pytest.mark.parametrize('name', ['depth', 'flow', 'motion'])
def test_a_batch_of_which_some_lack_a_part_is_refused(name: str) -> None:
    sample = sample_of()
    with pytest.raises(DatasetError, match=f'a: has no {name}'):
        collate([train(sample), train(dataclasses.replace(sample, **{name: None}))])
