"""The image before, from which networks that see flow beside the image have it measured."""

from __future__ import annotations

import numpy as np

MAX_AGE_S = 0.5  # of a previous image: what moved for longer has little to do with how it moves now


class LastImages:
    """The last image of each camera, given out when the next one comes."""

    def __init__(self) -> None:
        self._images: dict[str, tuple[int, np.ndarray | None]] = {}

    def replace(self, camera: str, stamp_ns: int, image: np.ndarray | None) -> np.ndarray | None:
        """Remember an image of a camera; returns the one before it, None if that is not up to `MAX_AGE_S` older.

        Args:
            camera: its name.
            stamp_ns: when the image was taken, nanoseconds; the same stamp or an earlier one is a jump in time.
            image: (H, W, 3) uint8 rgb, kept as it is, not copied; None for one that cannot be used.
        """
        before = self._images.get(camera)
        self._images[camera] = (stamp_ns, image)
        return before[1] if before is not None and 0 < stamp_ns - before[0] <= MAX_AGE_S * 1e9 else None
