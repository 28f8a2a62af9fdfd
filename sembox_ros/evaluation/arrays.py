"""What metrics are saved as: named arrays in an .npz file, without pickle; text is JSON in bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sembox_ros.atomic import whole_file
from sembox_ros.errors import InputError
from sembox_ros.types import check_array


def pack_json(value: Any) -> np.ndarray:
    """A value as JSON in (N,) uint8; numpy's own text arrays lose trailing zeros and pad all to the longest."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def unpack_json(name: str, packed: np.ndarray) -> Any:
    """The inverse of `pack_json`.

    Raises:
        InputError: it is no such array, or holds no JSON; `name` is that of the argument.
    """
    check_array(name, packed, (None,), np.uint8)
    try:
        return json.loads(packed.tobytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f'{name}: expected JSON, got {packed.tobytes()!r:.80} ({error})') from error


def check_counts(name: str, counts: np.ndarray, shape: tuple[int | None, ...]) -> None:
    """Raise an `InputError` that names the argument unless it is int64 of that shape without negative numbers."""
    check_array(name, counts, shape, np.int64)
    if (counts < 0).any():
        raise InputError(f'{name}: expected counts from 0, got {counts.min()}')


def save_arrays(arrays: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Write a compressed .npz file; it appears whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    # Without allow_pickle=False, which numpy 1.26 would take for an array of that name.
    with whole_file(Path(path), InputError) as draft, draft.open('wb') as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read a file of `save_arrays`.

    Raises:
        InputError: it is missing, damaged or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # of numpy, zipfile and zlib, which raise a dozen kinds for bytes that are not theirs
        raise InputError(f'{path}: expected an .npz file of arrays, which it is not, or not whole: {error}') from error
