from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.config import InputConfig
from sembox_ros.data.cityscapes import Cityscapes
from sembox_ros.data.transforms import AugmentConfig, TrainTransform
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.training.loader import (
    Schedule,
    TrainSamples,
    create_train_loader,
    create_val_loader,
    load_datasets,
    mix_seed,
)


@settings(deadline=None)
@given(
    length=st.integers(1, 40), batch=st.integers(1, 6), epochs=st.integers(1, 4), ranks=st.integers(1, 3),
    seed=st.integers(0, 2**63), data=st.data(),
)  # fmt: skip
def test_schedule(length: int, batch: int, epochs: int, ranks: int, seed: int, data: st.DataObject):
    if length < batch * ranks:
        with pytest.raises(DatasetError, match=f'has {length} images, fewer than one step of {ranks} x {batch}'):
            Schedule(length=length, per_process=batch, epochs=epochs, seed=seed, processes=ranks)
        return

    def keys(rank: int, first_step: int = 0, processes: int = ranks, per_process: int = batch) -> list:
        schedule = Schedule(
            length=length, per_process=per_process, epochs=epochs, seed=seed, rank=rank, processes=processes,
            first_step=first_step,
        )  # fmt: skip
        result = list(schedule)
        assert len(schedule) == len(result)
        return result

    steps = length // (batch * ranks)
    whole = keys(0, processes=1, per_process=batch * ranks)
    assert [epoch for epoch, _ in whole] == [e for e in range(epochs) for _ in range(steps * batch * ranks)]
    for epoch in range(epochs):
        seen = [index for e, index in whole if e == epoch]
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(length))
        assert len(seen) > length - batch * ranks  # what is left over fills no step
    parts = [keys(rank) for rank in range(ranks)]
    together = []
    for step in range(steps * epochs):
        for part in parts:
            together += part[step * batch : (step + 1) * batch]
    assert together == whole
    step = data.draw(st.integers(0, steps * epochs))
    assert [keys(rank, first_step=step) for rank in range(ranks)] == [part[step * batch :] for part in parts]


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed: int, epoch: int) -> list[int]:
        return [i for e, i in Schedule(length=30, per_process=3, epochs=2, seed=seed) if e == epoch]

    orders = [order(0, 0), order(0, 1), order(1, 0), order(1, 1), list(range(30))]
    assert len({tuple(o) for o in orders}) == 5
    assert all(sorted(o) == list(range(30)) for o in orders)
    schedule = Schedule(length=31, per_process=3, epochs=2, seed=0)
    assert (schedule.steps_per_epoch, schedule.total_steps) == (10, 20)


def test_mixed_seeds_do_not_collide():
    grid = [(seed, epoch, index) for seed in range(4) for epoch in range(30) for index in range(100)]
    mixed = {mix_seed(*key) for key in grid}
    assert len(mixed) == len(grid)
    assert min(mixed) >= 0
    assert max(mixed) < 2**63
    assert mix_seed(1, 2) != mix_seed(2, 1)
    assert len({mix_seed(0), mix_seed(0, 0), mix_seed(0, 0, 0)}) == 3
    # Neighbours share no more bits than strangers: 31.5 of 63 differ on average.
    differing = [(mix_seed(0, 0, index) ^ mix_seed(0, 0, index + 1)).bit_count() for index in range(500)]
    assert sum(differing) / 500 == pytest.approx(31.5, abs=1)


def test_the_same_key_gives_the_same_item(streets: Path):
    given = InputConfig()
    transform = TrainTransform(size_hw=(128, 128), augment=AugmentConfig(), mean=given.mean, std=given.std)
    dataset = Cityscapes(root=streets)
    samples = TrainSamples(dataset, transform, seed=5)
    first = samples[(0, 3)]
    torch.manual_seed(99)  # nothing but the key counts
    again = TrainSamples(dataset, transform, seed=5)[(0, 3)]
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.semantic, again.semantic)
    assert torch.equal(first.boxes_xyxy, again.boxes_xyxy)
    others = [samples[(1, 3)], TrainSamples(dataset, transform, seed=6)[(0, 3)]]
    for other in others:
        assert other.image_id == first.image_id
        assert not torch.equal(other.image, first.image)


def test_batches_follow_the_schedule_also_with_workers(tiny_config, tmp_path: Path):
    config = tiny_config(tmp_path, epochs=1)
    train, _ = load_datasets(config)
    schedule = Schedule(length=len(train), per_process=2, epochs=1, seed=0)
    batches = list(create_train_loader(train, config, schedule))
    assert [name for batch in batches for name in batch.image_ids] == [train.image_ids[i] for _, i in schedule]
    assert batches[0].images.shape == (2, 3, 128, 128)
    later = Schedule(length=len(train), per_process=2, epochs=1, seed=0, first_step=1)
    in_workers = list(create_train_loader(train, tiny_config(tmp_path, epochs=1, data={'workers': 2}), later))
    assert len(in_workers) == 2
    for batch, other in zip(batches[1:], in_workers, strict=True):
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.semantic, other.semantic)
        assert all(torch.equal(a, b) for a, b in zip(batch.boxes_xyxy, other.boxes_xyxy, strict=True))


def test_validation_shares_out_every_image_once(tiny_config, tmp_path: Path):
    config = tiny_config(tmp_path, val_batch_size=2)
    train, _ = load_datasets(config)  # six images
    parts = [
        [name for batch in create_val_loader(train, config, rank=rank, processes=4) for name in batch.image_ids]
        for rank in range(4)
    ]
    assert [len(part) for part in parts] == [2, 2, 1, 1]
    assert sorted(name for part in parts for name in part) == list(train.image_ids)


def test_datasets_that_are_not_there(tiny_config, tmp_path: Path):
    with pytest.raises(DatasetError, match='there is no such folder'):
        load_datasets(tiny_config(tmp_path, data={'root': str(tmp_path / 'absent')}))
    with pytest.raises(ConfigError, match='did you mean cityscapes'):
        load_datasets(tiny_config(tmp_path, data={'dataset': 'cityscape'}))
