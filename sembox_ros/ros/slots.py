"""The newest item of each camera, handed out in turn."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar('T')


class NewestSlots(Generic[T]):
    """One slot per camera; a newer item takes the place of the one that waits there.

    Not locked: its owner's condition guards it.

    Args:
        cameras: their names.

    Attributes:
        since: `time.perf_counter` at which the slots, all empty before, got their first item.
    """

    def __init__(self, cameras: Iterable[str]) -> None:
        self._turns = list(cameras)  # served least recently first
        self._waiting: dict[str, T] = {}
        self.since = 0.0

    def __len__(self) -> int:
        """How many cameras have an item."""
        return len(self._waiting)

    def put(self, camera: str, item: T) -> T | None:
        """Store a camera's newest item; returns the one that it replaced, or None."""
        if not self._waiting:
            self.since = time.perf_counter()
        replaced = self._waiting.get(camera)
        self._waiting[camera] = item
        return replaced

    def take(self, limit: int) -> list[T]:
        """Remove and return up to `limit` items, of those cameras first that were served least recently."""
        chosen = [camera for camera in self._turns if camera in self._waiting][:limit]
        self._turns = [camera for camera in self._turns if camera not in chosen] + chosen
        return [self._waiting.pop(camera) for camera in chosen]

    def clear(self) -> list[T]:
        """Remove and return all items; nobody counts as served."""
        items = list(self._waiting.values())
        self._waiting.clear()
        return items
