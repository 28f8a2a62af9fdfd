"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sembox_ros.errors import SemboxError

DRAFT_SUFFIX = '.part'


@contextmanager
def whole_file(path: Path, error_class: type[SemboxError]) -> Iterator[Path]:
    """A draft for the body to write, which then takes the place of `path`; if the body fails, the old file stays.

    Several processes may write the same file at once: each has a draft of its own, and the last one to finish wins.

    Args:
        path: the file; its folder is made.
        error_class: of the error.

    Yields:
        The draft's path, in the same folder.

    Raises:
        SemboxError: an `error_class` in place of an OSError: the file cannot be written.
    """
    draft = path.with_name(f'.{path.name}.{secrets.token_hex(4)}{DRAFT_SUFFIX}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield draft
            os.replace(draft, path)
        finally:  # also after Ctrl-C
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise error_class(f'{path}: cannot be written: {error.strerror or error}') from error


def write_whole(path: Path, data: bytes, error_class: type[SemboxError]) -> None:
    """Write a file with `whole_file`.

    Raises:
        SemboxError: an `error_class`: the file cannot be written.
    """
    with whole_file(path, error_class) as draft:
        draft.write_bytes(data)
