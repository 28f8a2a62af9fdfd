"""How much each semantic class counts in the loss, so that rare classes are learnt too."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader
from tqdm import tqdm

from sembox_ros.atomic import write_whole
from sembox_ros.data.sample import Dataset
from sembox_ros.errors import DatasetError

ENET_OFFSET = 1.02  # c of the paper: weights lie between 1.42 (a class alone) and 50.5 (a class never seen)
_MAX_CACHE_BYTES = 1_000_000

_log = logging.getLogger(__name__)


def enet_weights(pixel_counts: np.ndarray) -> tuple[float, ...]:
    """Weights 1 / ln(1.02 + p) (ENet, Paszke et al. 2016, section 5.2), p being a class's share of labelled pixels.

    Args:
        pixel_counts: (K,) pixels of each class.

    Returns:
        K numbers.

    Raises:
        DatasetError: no pixel is labelled.
    """
    total = pixel_counts.sum()
    if not total:
        raise DatasetError('class weights: expected labelled pixels, the dataset has none; is it the test split?')
    return tuple((1 / np.log(ENET_OFFSET + pixel_counts / total)).tolist())


class _PixelCounts:
    """Pixels of each of 256 ids in each image, for a `DataLoader` to spread over processes."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> np.ndarray:
        sample = self._dataset[index]
        if sample.semantic is None:
            raise DatasetError(f'{sample.image_id}: class weights need semantic labels, this image has none')
        return np.bincount(sample.semantic.ravel(), minlength=256)


def count_pixels(dataset: Dataset, *, workers: int = 0) -> np.ndarray:
    """Pixels of each semantic class over the whole dataset, ignored ones left out; shows its progress.

    Args:
        dataset: with semantic labels.
        workers: processes that read; 0 reads in this one.

    Returns:
        (K,) int64.

    Raises:
        DatasetError: no semantic labels, or a file is damaged.
    """
    if dataset.labels.semantic is None:
        raise DatasetError('class weights: expected a dataset with semantic labels, this one has boxes only')
    total = np.zeros(256, np.int64)
    # No batches: an exception in a worker then reaches us as itself and not wrapped in a batch's traceback.
    loader: Iterable[Any] = DataLoader(_PixelCounts(dataset), batch_size=None, num_workers=workers)  # type: ignore[arg-type]
    for counts in tqdm(loader, desc='counting pixels', unit='image', disable=None):
        total += np.asarray(counts)
    return total[: len(dataset.labels.semantic)]


def load_class_weights(
    dataset: Dataset, *, name: str, options: Mapping[str, Any], workers: int = 0, cache: Path | None = None
) -> tuple[float, ...]:
    """ENet weights of a dataset; its pixels are counted once and the counts kept in the user's cache.

    Args:
        dataset: what `load_dataset(name, options)` gave.
        name: of the dataset.
        options: of the dataset.
        workers: processes that count.
        cache: folder of the counts; by default $XDG_CACHE_HOME/sembox_ros or ~/.cache/sembox_ros.

    Returns:
        K numbers, K the number of semantic classes.

    Raises:
        DatasetError: no semantic labels, no labelled pixel, or a damaged file.
    """
    description = _describe(dataset, name, options)
    text = json.dumps(description, sort_keys=True)
    folder = default_cache() if cache is None else cache
    path = folder / f'class_pixels_{hashlib.sha256(text.encode()).hexdigest()[:16]}.json'
    counts = _read_counts(path, description)
    if counts is None:
        counts = count_pixels(dataset, workers=workers)
        _write_counts(path, description, counts)
    return enet_weights(counts)


def default_cache() -> Path:
    """The folder of this package in the user's cache (XDG base directory specification)."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'sembox_ros'


def _describe(dataset: Dataset, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What the counts depend on, as JSON."""
    kept = {key: str(value) for key, value in options.items()}
    if 'root' in kept:
        kept['root'] = str(Path(kept['root']).expanduser().resolve())
    ids = dataset.image_ids
    return {
        'dataset': name,
        'options': kept,
        'semantic': list(dataset.labels.semantic_names),
        'images': len(ids),
        'first_and_last': [ids[0], ids[-1]] if ids else [],
    }


def _read_counts(path: Path, description: Mapping[str, Any]) -> np.ndarray | None:
    """The counts in the cache file, or None where it is missing or not what it should be."""
    try:
        if path.stat().st_size > _MAX_CACHE_BYTES:
            raise ValueError(f'larger than {_MAX_CACHE_BYTES} bytes')
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or content.get('description') != description:
            raise ValueError('it describes another dataset')
        counts = content.get('pixel_counts')
        if not isinstance(counts, list) or len(counts) != len(description['semantic']):
            raise ValueError('pixel_counts: expected one number for each class')
        if any(type(count) is not int or not 0 <= count < 2**63 // len(counts) for count in counts):
            raise ValueError('pixel_counts: expected whole numbers of 0 or more')
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        _log.warning('%s: unusable, counting again: %s', path, error)
        return None
    return np.array(counts, np.int64)


def _write_counts(path: Path, description: Mapping[str, Any], counts: np.ndarray) -> None:
    """Keep the counts; where that fails they are only counted again next time."""
    content = {'description': description, 'pixel_counts': counts.tolist()}
    try:
        write_whole(path, json.dumps(content, indent=1).encode(), DatasetError)
    except DatasetError as error:
        _log.warning('%s; the pixels will be counted again next time', error)
