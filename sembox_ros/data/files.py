"""What the readers of public datasets share: options, folders, lists and JSON files. `image_files` reads images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sembox_ros.config import suggest
from sembox_ros.errors import ConfigError, DatasetError

MAX_JSON_BYTES = 4 << 30  # the largest official annotation file has half a gigabyte

Item = TypeVar('Item')


def check_option(name: str, value: str, choices: Iterable[str]) -> str:
    """The value, if it is one of the choices.

    Raises:
        ConfigError: it is not; names the closest one.
    """
    known = tuple(choices)
    if value not in known:
        hint = suggest(str(value), known)
        raise ConfigError(f"{name}: expected one of {', '.join(known)}; got '{value}'{hint}")
    return value


def first_of(items: Sequence[Item], limit: int) -> Sequence[Item]:
    """The first `limit` items; 0 gives all.

    Raises:
        ConfigError: the limit is negative or no whole number.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise ConfigError(f'limit: expected 0 (all images) or a positive whole number, got {limit!r}')
    return items[:limit] if limit else items


def list_folder(path: Path, suffix: str, how_to_get: str) -> list[str]:
    """Sorted names of the files in a folder that end in `suffix`.

    Raises:
        DatasetError: there is no such folder, or no such file in it; `how_to_get` is the remedy.
    """
    try:
        names = sorted(name for name in os.listdir(path) if name.endswith(suffix))
    except OSError as error:
        raise DatasetError(f'{path}: no such folder ({error.strerror}). {how_to_get}') from error
    if not names:
        raise DatasetError(f'{path}: holds no {suffix} file. {how_to_get}')
    return names


def require_files(folder: Path, names: Iterable[str], how_to_get: str) -> None:
    """Check that a folder holds all these files; one listing of it, whatever their number.

    Raises:
        DatasetError: some are missing; names the first one and says how many.
    """
    try:
        present = set(os.listdir(folder))
    except OSError as error:
        raise DatasetError(f'{folder}: no such folder ({error.strerror}). {how_to_get}') from error
    wanted = list(names)
    missing = [name for name in wanted if name not in present]
    if missing:
        raise DatasetError(
            f'{folder / missing[0]}: no such file; {len(missing)} of {len(wanted)} are missing there. {how_to_get}'
        )


def read_text(path: Path, how_to_get: str, *, max_bytes: int) -> str:
    """The text of a UTF-8 file.

    Raises:
        DatasetError: missing, larger than `max_bytes`, or not UTF-8.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise DatasetError(f'{path}: expected at most {max_bytes} bytes, it has {size}')
        return path.read_text(encoding='utf-8')
    except OSError as error:
        raise DatasetError(f'{path}: cannot be read ({error.strerror}). {how_to_get}') from error
    except UnicodeDecodeError as error:
        raise DatasetError(f'{path}: expected UTF-8 text: {error}. {how_to_get}') from error


def read_json_object(path: Path, how_to_get: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DatasetError: missing, too large, cut short, not JSON, or not an object.
    """
    text = read_text(path, how_to_get, max_bytes=MAX_JSON_BYTES)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f'{path}: is not valid JSON, it may be cut short: {error}. {how_to_get}') from error
    if not isinstance(data, dict):
        raise DatasetError(f'{path}: expected a JSON object, got {type(data).__name__}')
    return data
