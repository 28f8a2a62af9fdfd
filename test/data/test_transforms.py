from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from sembox_ros.config import InputConfig
from sembox_ros.data.sample import Sample
from sembox_ros.data.transforms import AugmentConfig, Batch, EvalTransform, Item, TrainTransform, collate
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.inference.preprocess import Preprocessor
from sembox_ros.ops.placement import Placement

CAR = 13
STILL: dict[str, Any] = {
    'scale_min': 1.0, 'scale_max': 1.0, 'flip_probability': 0.0, 'brightness': 0.0, 'contrast': 0.0, 'saturation': 0.0,
    'min_box_px': 0.0, 'min_visible': 0.0,
}  # fmt: skip


def train(size_hw: tuple[int, int] = (128, 256), **augment: Any) -> TrainTransform:
    """Without normalisation, so that the image is the pixels / 255; nothing varies but what `augment` names."""
    options = AugmentConfig(**{**STILL, **augment})
    return TrainTransform(size_hw=size_hw, augment=options, mean=(0.0,) * 3, std=(1.0,) * 3)


def with_boxes(image: np.ndarray, boxes: list[list[float]], crowd: list[bool] | None = None, **parts: Any) -> Sample:
    return Sample(
        image=image,
        image_id='a',
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        class_ids=np.arange(len(boxes), dtype=np.int64),
        is_crowd=np.array(crowd or [False] * len(boxes), bool),
        **parts,
    )


def rectangle(size_hw: tuple[int, int], box: tuple[int, int, int, int]) -> Sample:
    """A white car of that box on a black road."""
    x0, y0, x1, y1 = box
    semantic = np.zeros(size_hw, np.uint8)
    semantic[y0:y1, x0:x1] = CAR
    image = np.repeat((semantic == CAR)[:, :, None], 3, axis=2) * np.uint8(255)
    return with_boxes(image, [list(box)], semantic=semantic, instances=(semantic == CAR).astype(np.uint16))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tight_box(mask: Tensor) -> list[float]:
    rows, columns = torch.where(mask)
    return [float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


@st.composite
def boxes_in(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """An image size and a box in it of at least 6 pixels a side."""
    height, width = draw(st.integers(20, 150)), draw(st.integers(20, 300))
    x0, y0 = draw(st.integers(0, width - 6)), draw(st.integers(0, height - 6))
    return (height, width), (x0, y0, draw(st.integers(x0 + 6, width)), draw(st.integers(y0 + 6, height)))


@settings(deadline=None, max_examples=80)
@given(scene=boxes_in(), seed=st.integers(0, 2**63 - 1), scale=st.sampled_from([(0.5, 2.0), (1.0, 1.0), (3.0, 4.0)]))
def test_image_labels_and_box_stay_together(
    scene: tuple[tuple[int, int], tuple[int, int, int, int]], seed: int, scale: tuple[float, float]
) -> None:
    item = train(scale_min=scale[0], scale_max=scale[1], flip_probability=0.5)(rectangle(*scene), seed)
    car = item.semantic == CAR
    assert torch.equal(item.instances, car.int())
    if not len(item.boxes_xyxy):
        assert int(car.sum()) == 0
        return
    box = item.boxes_xyxy[0]
    if min(box[2:] - box[:2]) > 1.5:
        np.testing.assert_allclose(tight_box(car), box, atol=1.5)
        np.testing.assert_allclose(tight_box(item.image[0] > 0.5), box, atol=1.5)
    assert (box >= 0).all()
    assert (box <= torch.tensor([256, 128, 256, 128])).all()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**63 - 1), degrees=st.floats(0, 15), shear=st.floats(0, 10))
def test_turning_and_leaning_keeps_them_together(seed: int, degrees: float, shear: float) -> None:
    item = train(degrees=degrees, shear=shear)(rectangle((128, 256), (90, 40, 170, 90)), seed)
    np.testing.assert_allclose(tight_box(item.semantic == CAR), item.boxes_xyxy[0], atol=2.0)
    assert torch.equal(item.instances, (item.semantic == CAR).int())
    np.testing.assert_allclose(tight_box(item.image[0] > 0.5), item.boxes_xyxy[0], atol=2.0)


def test_turning_leaves_ignored_corners_and_black_is_not_mistaken_for_them() -> None:
    transform = TrainTransform(
        size_hw=(128, 256), augment=AugmentConfig(**{**STILL, 'degrees': 20.0}), mean=(0.5,) * 3, std=(1.0,) * 3
    )
    item = transform(rectangle((128, 256), (90, 40, 170, 90)), seed=1)
    outside = item.semantic == 255
    assert 0.01 < outside.float().mean() < 0.5
    assert outside[0, 0] or outside[0, -1]
    core = torch.nn.functional.max_pool2d((~outside)[None].float(), 3, 1, 1)[0] == 0  # a pixel away from the edge
    assert (item.image[:, core] == 0).all()  # the mean colour, where black is -0.5
    assert int(core.sum()) > 100


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**63 - 1), shift=st.floats(0, 0.5))
def test_moving_keeps_them_together(seed: int, shift: float) -> None:
    item = train(shift=shift)(rectangle((128, 256), (90, 40, 170, 90)), seed)
    x0, y0, x1, y1 = item.boxes_xyxy[0].tolist()
    car = item.semantic == CAR
    assert tight_box(car) == tight_box(item.image[0] > 0.5) == [x0, y0, x1, y1]
    # A car that stays whole has moved by whole pixels, as far as is allowed.
    if x0 > 0 and y0 > 0 and x1 < 256 and y1 < 128:
        assert (x1 - x0, y1 - y0) == (80, 50)
        assert abs(x0 - 90) <= shift * 256 + 0.5
        assert abs(y0 - 40) <= shift * 128 + 0.5


def test_moved_images_are_ignored_where_nothing_came_to_lie() -> None:
    items = [train(shift=0.25)(rectangle((128, 256), (90, 40, 170, 90)), seed) for seed in range(8)]
    assert len({tuple(item.boxes_xyxy[0].tolist()) for item in items}) > 4
    for item in items:
        outside = item.semantic == 255
        assert (item.image[:, outside] == 0).all()
        rows, columns = (~outside).any(dim=1), (~outside).any(dim=0)
        assert torch.equal(~outside, rows[:, None] & columns[None])
        assert (int(columns.sum()), int(rows.sum())) != (256, 128)


@pytest.mark.parametrize(('probability', 'least', 'most'), [(0.0, 0, 0), (0.5, 12, 28), (1.0, 40, 40)])
def test_how_often_the_image_is_moved(probability: float, least: int, most: int) -> None:
    sample = rectangle((128, 256), (90, 40, 170, 90))
    transform = train(degrees=30.0, shear=5.0, shift=0.1, affine_probability=probability)
    moved = sum(bool((transform(sample, seed).semantic == 255).any()) for seed in range(40))
    assert least <= moved <= most


# A factor of almost 1 changes nothing.
@pytest.mark.parametrize(('probability', 'least', 'most'), [(0.0, 0, 0), (0.5, 12, 28), (1.0, 37, 40)])
def test_how_often_colours_vary(probability: float, least: int, most: int) -> None:
    sample = Sample(image=np.full((128, 256, 3), 90, np.uint8), image_id='a')
    for options in ({'brightness': 0.3, 'color_probability': probability},
                    {'rgb_shift': 25.0, 'rgb_shift_probability': probability}):  # fmt: skip
        transform = train(**options)
        varied = sum(bool(((transform(sample, seed).image * 255 - 90).abs() > 1e-3).any()) for seed in range(40))
        assert least <= varied <= most


def test_rgb_shift_moves_each_channel_alone_and_stays_in_range() -> None:
    image = np.zeros((128, 256, 3), np.uint8)
    image[:, 128:] = 255
    image[64:] = 100
    transform = train(rgb_shift=25.0, rgb_shift_probability=1.0)
    shifts = []
    for seed in range(60):
        levels = (transform(Sample(image=image, image_id='a'), seed).image * 255).round().int()
        shift = levels[:, 100, 0] - 100
        assert (levels[:, 64:] == 100 + shift[:, None, None]).all()
        assert (levels[:, :64, :128] == shift.clamp(min=0)[:, None, None]).all()
        assert (levels[:, :64, 128:] == (255 + shift).clamp(max=255)[:, None, None]).all()
        shifts.append(shift)
    spread = torch.stack(shifts)
    assert -25 <= int(spread.min()) <= -20
    assert 20 <= int(spread.max()) <= 25
    assert (spread[:, 0] != spread[:, 1]).sum() > 50


def test_stretching_fills_the_canvas_as_inference_does() -> None:
    sample = rectangle((96, 64), (16, 24, 48, 72))
    options = AugmentConfig(**STILL)
    given = InputConfig(size_hw=(128, 256), resize='stretch', mean=(0.0,) * 3, std=(1.0,) * 3)
    transform = TrainTransform(size_hw=(128, 256), augment=options, mean=given.mean, std=given.std, resize='stretch')
    item, expected = transform(sample, 1), EvalTransform(given)(sample)
    assert torch.equal(item.image, expected.image)
    assert torch.equal(item.semantic, expected.semantic)
    assert torch.equal(item.boxes_xyxy, expected.boxes_xyxy)
    assert not (item.semantic == 255).any()


def test_a_crop_has_the_scale_of_the_canvas() -> None:
    sample = rectangle((256, 512), (0, 0, 512, 256))
    whole = train((256, 512), crop_hw=(128, 256))(sample, 1)
    assert whole.image.shape == (3, 128, 256)
    assert whole.boxes_xyxy.tolist() == [[0, 0, 256, 128]]  # a quarter of the car, at the canvas's scale
    noisy = with_boxes(noise(256, 512), [[100, 50, 400, 200]])
    cut = train((256, 512), crop_hw=(128, 256))(noisy, 7)
    pixels = torch.from_numpy(noisy.image).permute(2, 0, 1)
    windows = [
        (top, left)
        for top in range(129)
        for left in range(257)
        if torch.equal(pixels[:, top, left : left + 256], (cut.image[:, 0] * 255).round().to(torch.uint8))
    ]
    assert len(windows) == 1


def test_flip_mirrors_everything() -> None:
    sample = with_boxes(noise(128, 256), [[10, 20, 30, 50]], semantic=noise(128, 256, 1)[:, :, 0])
    plain, flipped = train(flip_probability=0.0)(sample, 3), train(flip_probability=1.0)(sample, 3)
    assert torch.equal(flipped.image, plain.image.flip(2))
    assert torch.equal(flipped.semantic, plain.semantic.flip(1))
    assert flipped.boxes_xyxy.tolist() == [[226, 20, 246, 50]]


def test_half_of_the_images_are_flipped() -> None:
    sample = rectangle((128, 256), (0, 0, 20, 20))
    transform = train(flip_probability=0.5)
    flipped = sum(transform(sample, seed).boxes_xyxy[0, 0].item() > 100 for seed in range(100))
    assert 30 < flipped < 70


def test_without_variation_the_image_arrives_as_it_is() -> None:
    sample = with_boxes(noise(128, 256), [[1.5, 2, 3, 4.25]], semantic=noise(128, 256, 1)[:, :, 0])
    item = train()(sample, 0)
    np.testing.assert_array_equal((item.image * 255).round().permute(1, 2, 0).numpy(), sample.image)
    np.testing.assert_array_equal(item.semantic.numpy(), sample.semantic)
    assert item.boxes_xyxy.tolist() == [[1.5, 2, 3, 4.25]]
    assert (item.placement, item.sample) == (None, None)


def test_a_small_image_lies_top_left_and_the_rest_is_mean_colour_and_ignored() -> None:
    transform = TrainTransform(
        size_hw=(128, 256), augment=AugmentConfig(scale_min=0.5, scale_max=0.5), mean=(0.3, 0.4, 0.5), std=(0.2,) * 3
    )
    white = np.full((100, 200, 3), 255, np.uint8)
    item = transform(with_boxes(white, [[0, 0, 200, 100]], semantic=np.full((100, 200), 5, np.uint8)), 0)
    assert (item.semantic[:64, :128] == 5).all()
    assert (item.image[:, :64, :128] > 0.5).all()
    for padding in (np.s_[64:], np.s_[:, 128:]):
        assert (item.semantic[padding] == 255).all()
        assert (item.image[(slice(None), *np.index_exp[padding])] == 0).all()
    assert item.boxes_xyxy.tolist() == [[0, 0, 128, 64]]


@settings(deadline=None, max_examples=60)
@given(
    x0=st.integers(0, 250),
    width=st.integers(1, 250),
    share=st.floats(0, 1),
    crowd=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_cut_boxes_are_clipped_ignored_or_gone(x0: int, width: int, share: float, crowd: bool, seed: int) -> None:
    """The pixels carry their column, so where the window was cut can be read off the result."""
    x1 = min(x0 + width, 256)
    image = np.repeat(np.tile(np.arange(256, dtype=np.uint8), (128, 1))[:, :, None], 3, axis=2)
    sample = with_boxes(image, [[x0, 10, x1, 40]], [crowd])
    item = train((128, 128), scale_min=2.0, scale_max=2.0, min_visible=share, min_box_px=3.0)(sample, seed)
    left = round(float(item.image[0, 0, 0]) * 255)
    shown = (max(x0 - left, 0), min(x1 - left, 128))
    if shown[1] <= shown[0]:
        assert len(item.boxes_xyxy) == len(item.class_ids) == len(item.is_crowd) == 0
        return
    assert item.boxes_xyxy.tolist() == [[shown[0], 10, shown[1], 40]]
    seen = shown[1] - shown[0]
    if abs(seen / (x1 - x0) - share) > 1e-4:
        assert item.is_crowd.tolist() == [crowd or seen < 3 or seen / (x1 - x0) < share]


def test_windows_lie_everywhere() -> None:
    image = np.repeat(np.tile(np.arange(256, dtype=np.uint8), (128, 1))[:, :, None], 3, axis=2)
    transform = train((128, 128), scale_min=2.0, scale_max=2.0)
    lefts = [round(float(transform(Sample(image=image, image_id='a'), s).image[0, 0, 0]) * 255) for s in range(200)]
    assert min(lefts) < 10
    assert max(lefts) in range(119, 129)


def test_colours_vary_and_labels_do_not() -> None:
    sample = with_boxes(noise(128, 256), [[10, 20, 30, 50]], semantic=noise(128, 256, 1)[:, :, 0])
    plain = train()(sample, 0)
    for option in ('brightness', 'contrast', 'saturation', 'hue'):
        item = train(**{option: 0.5})(sample, 0)
        assert (item.image - plain.image).abs().mean() > 0.01, option
        assert torch.equal(item.semantic, plain.semantic)
        assert torch.equal(item.boxes_xyxy, plain.boxes_xyxy)


def same(first: Item, second: Item) -> bool:
    return all(torch.equal(getattr(first, n), getattr(second, n)) for n in ('image', 'semantic', 'boxes_xyxy'))


def test_an_item_follows_from_its_seed_alone_and_disturbs_nobody() -> None:
    sample = with_boxes(noise(100, 150), [[10, 20, 30, 50]], semantic=noise(100, 150, 1)[:, :, 0])
    transform = TrainTransform(size_hw=(128, 256), augment=AugmentConfig(hue=0.1), mean=(0.5,) * 3, std=(0.2,) * 3)
    torch.manual_seed(0)
    first, state = transform(sample, 7), torch.get_rng_state()
    torch.manual_seed(99)
    assert same(transform(sample, 7), first)
    assert not same(transform(sample, 8), first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(pickle.loads(pickle.dumps(transform))(sample, 7), first)


class Transformed:
    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.transform = TrainTransform(size_hw=(128, 256), augment=AugmentConfig(), mean=(0.5,) * 3, std=(0.2,) * 3)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Item:
        return self.transform(self.sample, index)


def test_worker_processes_give_the_same_batches() -> None:
    items = Transformed(with_boxes(noise(100, 150), [[10, 20, 30, 50]], semantic=noise(100, 150, 1)[:, :, 0]))
    here = list(DataLoader(items, batch_size=2, collate_fn=collate))
    there = list(DataLoader(items, batch_size=2, collate_fn=collate, num_workers=1))
    assert len(here) == len(there) == 2
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.semantic, b.semantic)
        assert [x.tolist() for x in a.boxes_xyxy] == [x.tolist() for x in b.boxes_xyxy]


@settings(deadline=None, max_examples=30)
@given(
    height=st.integers(1, 300), width=st.integers(1, 300), resize=st.sampled_from(['letterbox_fixed', 'stretch']),
    order=st.sampled_from(['rgb', 'bgr']),
)  # fmt: skip
def test_validation_feeds_the_network_what_inference_feeds_it(height: int, width: int, resize: str, order: str) -> None:
    config = InputConfig(size_hw=(128, 256), resize=resize, channel_order=order)
    image = noise(height, width)
    item = EvalTransform(config)(Sample(image=image, image_id='a'))
    wanted = Preprocessor(config, device=torch.device('cpu'), dtype=torch.float32)([image], [item.placement])
    assert torch.equal(item.image, wanted[0])


def test_validation_keeps_the_whole_canvas_the_placement_and_the_sample() -> None:
    sample = rectangle((100, 100), (10, 20, 50, 60))
    item = EvalTransform(InputConfig(size_hw=(128, 256)))(sample)
    assert item.placement == Placement((100, 100), scaled_hw=(128, 128), canvas_hw=(128, 256))
    assert item.sample is sample
    np.testing.assert_allclose(item.boxes_xyxy[0], [12.8, 25.6, 64, 76.8], atol=1e-4)
    np.testing.assert_allclose(tight_box(item.semantic == CAR), [13, 26, 64, 77])
    assert (item.semantic[:, 128:] == 255).all()
    assert (item.semantic[:, :128] != 255).all()
    assert (item.image[:, :, 128:] == 0).all()
    assert item.instances is None  # as only the sample's own are asked for


def test_instances_keep_the_numbers_of_their_boxes() -> None:
    """Nine columns of 60 pixels, of which a window shows some: numbers count the boxes that are left, crowds too."""
    numbers = np.repeat(np.arange(1, 10, dtype=np.uint16), 60)[None].repeat(128, axis=0)
    sample = with_boxes(
        np.repeat(numbers[:, :, None], 3, axis=2).astype(np.uint8), [[60 * k, 0, 60 * (k + 1), 128] for k in range(9)],
        instances=numbers,
    )  # fmt: skip
    seen = set()
    for seed in range(30):
        item = train((128, 128), scale_min=540 / 128, scale_max=540 / 128, min_visible=0.5, flip_probability=0.5)(
            sample, seed
        )
        assert item.instances.dtype == torch.int32
        # The image still has the old numbers; class ids are the rows that the boxes had.
        was = (item.image[0] * 255).round().long() - 1
        assert torch.equal(item.class_ids[item.instances.long() - 1], was)
        for number, box in enumerate(item.boxes_xyxy.tolist(), start=1):
            assert tight_box(item.instances == number) == box
        seen |= {(len(item.class_ids), int(item.is_crowd.sum()))}
    assert seen == {(3, 0), (3, 1), (4, 2)}  # boxes in the window, and how many of them less than half


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**63 - 1), count=st.sampled_from([300, 40000]), degrees=st.sampled_from([0.0, 10.0]))
def test_no_step_loses_a_number(seed: int, count: int, degrees: float) -> None:
    """Numbers beyond 8 and beyond 15 bits, at any scale, flipped and turned: only those that were there, and 0."""
    rng = np.random.default_rng(seed % 1000)
    present = np.append(rng.choice(count, 3, replace=False) + 1, 0).astype(np.uint16)
    numbers = present[rng.integers(0, 4, (8, 16))].repeat(8, axis=0).repeat(8, axis=1)
    boxes = np.tile(np.float32([[0, 0, 128, 64]]), (count, 1))
    sample = Sample(
        image=np.zeros((64, 128, 3), np.uint8), image_id='a', boxes_xyxy=boxes, class_ids=np.zeros(count, np.int64),
        is_crowd=np.zeros(count, bool), instances=numbers,
    )  # fmt: skip
    item = train(scale_min=0.5, scale_max=3.0, flip_probability=0.5, degrees=degrees)(sample, seed)
    assert set(item.instances.unique().tolist()) <= set(present.tolist())
    assert len(item.instances.unique()) > 1


@pytest.mark.parametrize(
    ('instances', 'words'),
    [
        (np.full((128, 256), 2, np.uint16), r'a: instances: expected numbers 0\.\.1, one for each box and 0, got 2'),
        (np.zeros((128, 255), np.uint16), r'a: instances: expected \(128, 256\) uint16, got \(128, 255\) uint16'),
        (np.zeros((128, 256), np.int32), r'a: instances: expected \(128, 256\) uint16, got \(128, 256\) int32'),
    ],
)
def test_instances_that_do_not_fit_the_sample_are_refused(instances: np.ndarray, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        with_boxes(noise(128, 256), [[10, 20, 30, 50]], instances=instances)


def test_batches_stack_pad_nothing_and_move() -> None:
    transform = EvalTransform(InputConfig(size_hw=(128, 128)))
    samples = [
        rectangle((100, 100), (10, 20, 50, 60)),
        with_boxes(noise(50, 99), [], semantic=np.zeros((50, 99), np.uint8)),
    ]
    batch = collate([transform(s) for s in samples])
    assert batch.images.shape == (2, 3, 128, 128)
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.semantic.shape == (2, 128, 128)
    assert batch.semantic.dtype == torch.int64
    assert [boxes.shape for boxes in batch.boxes_xyxy] == [(1, 4), (0, 4)]
    assert [ids.dtype for ids in batch.class_ids] == [torch.int64] * 2
    assert [crowd.dtype for crowd in batch.is_crowd] == [torch.bool] * 2
    assert batch.samples == tuple(samples)
    assert [p.image_hw for p in batch.placements] == [(100, 100), (50, 99)]
    assert len(batch) == 2
    moved = batch.to('meta')
    tensors = (moved.images, moved.semantic, *moved.boxes_xyxy, *moved.class_ids, *moved.is_crowd)
    assert {t.device.type for t in tensors} == {'meta'}
    assert moved.image_ids == batch.image_ids


def test_parts_that_a_dataset_lacks_stay_absent() -> None:
    bare = Sample(image=noise(128, 128), image_id='bare')
    batch = collate([train((128, 128))(bare, 0), train((128, 128))(bare, 1)])
    assert batch.semantic is None
    assert batch.instances is None
    assert batch.boxes_xyxy == batch.class_ids == batch.is_crowd == ()
    assert batch.samples == batch.placements == ()
    full = train((128, 128))(rectangle((128, 128), (0, 0, 9, 9)), 0)
    with pytest.raises(DatasetError, match='bare: has no semantic, which other images'):
        collate([full, train((128, 128))(bare, 0)])
    boxless = dataclasses.replace(full, image_id='boxless', boxes_xyxy=None)
    with pytest.raises(DatasetError, match='boxless: has no boxes_xyxy'):
        collate([full, boxless])
    with pytest.raises(DatasetError, match='flat: has no instances, which other images'):
        collate([full, dataclasses.replace(full, image_id='flat', instances=None)])
    batch = collate([full, full])
    assert (batch.instances.shape, batch.instances.dtype) == ((2, 128, 128), torch.int32)
    assert batch.to('meta').instances.device.type == 'meta'
    assert isinstance(batch, Batch)


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 1000), scale=st.floats(0.1, 10.0))
def test_any_image_fits_the_canvas(height: int, width: int, seed: int, scale: float) -> None:
    sample = with_boxes(noise(height, width), [[0, 0, width, height]], semantic=np.zeros((height, width), np.uint8))
    item = train((128, 256), scale_min=scale, scale_max=scale, flip_probability=0.5)(sample, seed)
    assert item.image.shape == (3, 128, 256)
    assert item.semantic.shape == (128, 256)
    assert len(item.boxes_xyxy) == 1
    np.testing.assert_allclose(tight_box(item.semantic == 0), item.boxes_xyxy[0], atol=1e-3)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'scale_min': 1.5, 'scale_max': 1.0}, 'scale_min: expected at most scale_max = 1.0, got 1.5'),
        ({'hue': 0.6}, 'hue: .*0.6'),
        ({'flip_probability': 2}, 'flip_probability'),
        ({'degrees': -1.0}, 'degrees'),
    ],
)
def test_augmentation_limits(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AugmentConfig(**options)
