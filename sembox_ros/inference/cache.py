"""What is computed once for this user and machine: exported networks, and which engine is the fastest."""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from pathlib import Path


def cache_folder() -> Path:
    """Where it is kept: $XDG_CACHE_HOME/sembox_ros, else ~/.cache/sembox_ros.

    Where neither can be written, as on robots with a read-only system, a temporary folder serves this process.
    """
    folder = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'sembox_ros'
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return _temporary_folder()


@lru_cache(maxsize=1)
def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix='sembox_ros-'))
