"""Which sample comes when: a pure function of seed and step, whatever the number of workers or interruptions."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from sembox_ros.data.datasets import load_dataset, part_options
from sembox_ros.data.sample import Dataset
from sembox_ros.data.transforms import Batch, EvalTransform, Item, TrainTransform, collate
from sembox_ros.errors import DatasetError
from sembox_ros.training.config import TrainConfig
from sembox_ros.training.pieces import is_frozen, learnt_tasks, requested_model

Key = tuple[int, int]  # epoch, index of the sample


def mix_seed(*numbers: int) -> int:
    """One seed from several numbers, so that neighbours in any of them share nothing."""
    state = 0
    for number in numbers:
        # SplitMix64 (Steele et al. 2014)
        state = (state + number + 0x9E3779B97F4A7C15) % 2**64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        state ^= state >> 31
    return state % 2**63


class TrainSamples(TorchDataset[Item]):
    """Samples of a dataset, augmented by random numbers that belong to run, epoch and sample alone."""

    def __init__(self, dataset: Dataset, transform: TrainTransform, seed: int) -> None:
        self._dataset, self._transform, self._seed = dataset, transform, seed

    def __getitem__(self, key: Key) -> Item:
        epoch, index = key
        return self._transform(self._dataset[index], mix_seed(self._seed, epoch, index))


class EvalSamples(TorchDataset[Item]):
    """Samples of a dataset as the network sees them in use."""

    def __init__(self, dataset: Dataset, transform: EvalTransform) -> None:
        self._dataset, self._transform = dataset, transform

    def __getitem__(self, index: int) -> Item:
        return self._transform(self._dataset[index])


@dataclass(frozen=True)
class Schedule(Sampler[Key]):
    """Order of the samples of one process, from any step to the end of the run.

    Each epoch is a permutation of the dataset, cut into whole steps (a rest that fills none waits for another epoch).
    A step takes the next `processes x per_process` samples of it and gives each process its share, so that two
    processes together see what one process with twice the batch sees.

    Attributes:
        length: samples of the dataset.
        per_process: samples of one step of one process.
        epochs: permutations.
        seed: of the run.
        rank: number of this process.
        processes: how many there are.
        first_step: where to start.

    Raises:
        DatasetError: the dataset is smaller than one step.
    """

    length: int
    per_process: int
    epochs: int
    seed: int
    rank: int = 0
    processes: int = 1
    first_step: int = 0

    def __post_init__(self) -> None:
        if self.length < self.per_process * self.processes:
            raise DatasetError(
                f'the training data has {self.length} images, fewer than one step of {self.processes} x '
                f'{self.per_process}; lower batch_size or accumulate'
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole steps of one epoch."""
        return self.length // (self.per_process * self.processes)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    def __len__(self) -> int:
        return (self.total_steps - self.first_step) * self.per_process

    def __iter__(self) -> Iterator[Key]:
        first_epoch, skip = divmod(self.first_step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch))
            order = torch.randperm(self.length, generator=generator).tolist()
            for step in range(skip, self.steps_per_epoch):
                start = (step * self.processes + self.rank) * self.per_process
                yield from ((epoch, index) for index in order[start : start + self.per_process])
            skip = 0


def _calm_worker(_: int) -> None:
    """One thread for each worker, as their number fills the machine.

    Signals that reach the whole process group are the main process's to handle: it ends its workers itself.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def load_datasets(config: TrainConfig) -> tuple[Dataset, Dataset]:
    """Training and validation data, with what the network takes and learns beside images, masks and boxes.

    Pixels of each object are asked for where the dataset knows them and they are of use; flow, depth and motion, if
    the network has to do with them, must be there.

    Raises:
        ConfigError: unknown dataset or option, or the dataset never has what the network needs.
        DatasetError: it is not there.
    """
    data = config.data
    needed = learnt_tasks(config) | ({'flow'} & set(requested_model(config).inputs))
    learnt = part_options(data.dataset, needed=needed, useful=['instances'] if learns_instances(config) else [])
    graded = part_options(data.dataset, needed=needed, useful=['instances'])
    train = load_dataset(data.dataset, data.options({**data.train, **learnt}))
    val = load_dataset(data.dataset, data.options({**data.val, **graded}))
    return train, val


def learns_instances(config: TrainConfig) -> bool:
    """Whether the network has an instance head and it is not frozen."""
    return requested_model(config).instance_channels > 0 and not is_frozen(config, 'instance_head')


def create_train_loader(dataset: Dataset, config: TrainConfig, schedule: Schedule) -> DataLoader[Batch]:
    """Batches from `schedule.first_step` to the end of the run."""
    given = config.input
    transform = TrainTransform(
        size_hw=given.size_hw,
        augment=config.augment,
        mean=given.mean,
        std=given.std,
        channel_order=given.channel_order,
        resize=given.resize,
    )
    workers = config.data.workers
    samples: TorchDataset[Any] = TrainSamples(dataset, transform, config.seed)  # what `collate` gives is no Item
    return DataLoader(
        samples,
        batch_size=config.batch_size,
        sampler=schedule,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_calm_worker,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
    )


def create_val_loader(dataset: Dataset, config: TrainConfig, *, rank: int, processes: int) -> DataLoader[Batch]:
    """Every image once, shared out among the processes."""
    samples: TorchDataset[Any] = EvalSamples(dataset, EvalTransform(config.input))
    return DataLoader(
        samples,
        batch_size=config.val_batch_size,
        sampler=list(range(rank, len(dataset), processes)),
        num_workers=min(1, config.data.workers),
        collate_fn=collate,
        worker_init_fn=_calm_worker,
        pin_memory=torch.cuda.is_available(),
    )
