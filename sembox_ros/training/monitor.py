"""What a run tells while it goes on: a progress bar, a history file, TensorBoard."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from sembox_ros.errors import DatasetError

HISTORY = 'history.jsonl'

T = TypeVar('T')


class Monitor:
    """Shows and keeps numbers and pictures. In all processes but the first it does nothing.

    Args:
        folder: of the run.
        total_steps: of the run.
        first_step: where this session starts; what the history has beyond it is dropped, since it is done again.
        active: False in all processes but the first.
    """

    def __init__(self, folder: Path, *, total_steps: int, first_step: int, active: bool) -> None:
        self._folder, self._active, self._total = folder, active, total_steps
        self._bar: tqdm[Any] | None = None
        if active:
            folder.mkdir(parents=True, exist_ok=True)
            trim_history(folder / HISTORY, first_step)
            self._writer = SummaryWriter(folder / 'tensorboard', purge_step=first_step or None)
            self._bar = tqdm(
                total=total_steps, initial=first_step, desc='training', unit='step', disable=None, dynamic_ncols=True
            )

    def step(self, losses: Mapping[str, float], rate: float, images_per_s: float) -> None:
        """One step is done."""
        if self._bar is not None:
            self._bar.update()
            shown = {name.removeprefix('loss_'): f'{value:.3f}' for name, value in losses.items()}
            self._bar.set_postfix(**shown, lr=f'{rate:.1e}', img_s=f'{images_per_s:.1f}', refresh=False)

    def record(self, kind: str, step: int, epoch: float, numbers: Mapping[str, float]) -> None:
        """Add one line to the history and its numbers to TensorBoard.

        Args:
            kind: 'train' or 'val'.
            step: steps done.
            epoch: epochs done.
            numbers: name -> value; NaN becomes null.
        """
        if not self._active:
            return
        plain = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        with (self._folder / HISTORY).open('a') as file:
            file.write(json.dumps({'kind': kind, 'step': step, 'epoch': round(epoch, 4), **plain}) + '\n')
        for name, value in numbers.items():
            if math.isfinite(value):
                self._writer.add_scalar(f'{kind}/{name}', value, step)
        if self._bar is not None and self._bar.disable:  # a log file rather than a terminal
            told = ' '.join(f'{name} {value:.4g}' for name, value in numbers.items())
            self.say(f'{kind} {step}/{self._total} epoch {epoch:.2f} {told}')

    def show(self, step: int, pictures: Sequence[np.ndarray]) -> None:
        """Keep example pictures, (H, W, 3) uint8 rgb, as files and in TensorBoard.

        Raises:
            DatasetError: one cannot be written.
        """
        if not self._active:
            return
        folder = self._folder / 'examples'
        folder.mkdir(exist_ok=True)
        for index, picture in enumerate(pictures):
            file = folder / f'{index:02d}.png'
            if not cv2.imwrite(str(file), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
                raise DatasetError(f'{file}: cannot be written; is the disk full?')
            half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            self._writer.add_image(f'examples/{index:02d}', half, step, dataformats='HWC')

    def track(self, batches: Iterable[T], total: int, title: str) -> Iterable[T]:
        """The batches of something other than training, with a bar of their own."""
        return tqdm(batches, total=total, desc=title, unit='batch', disable=None if self._active else True,
                    leave=False, dynamic_ncols=True)  # fmt: skip

    def say(self, text: str) -> None:
        """Print a line without breaking the bar."""
        if self._active:
            tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()

    def close(self) -> None:
        """End the bar and write what is left."""
        if self._bar is not None:
            self._bar.close()
            self._writer.close()


def trim_history(path: Path, last_step: int) -> None:
    """Drop the lines of steps after `last_step` and those that cannot be read."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(errors='replace').splitlines():
        try:
            if json.loads(line)['step'] <= last_step:
                kept.append(line + '\n')
        except (ValueError, KeyError, TypeError):  # the end of a file that a killed process was writing
            continue
    path.write_text(''.join(kept))
