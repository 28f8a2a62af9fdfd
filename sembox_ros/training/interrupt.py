"""Ending a run in good order when it is told to."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Notes the first SIGINT or SIGTERM instead of dying from it; a second one ends the process at once.

    Attributes:
        requested: whether this process was told to stop.
    """

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def listening(self, say: Callable[[str], None]) -> Iterator[None]:
        """Handle the signals inside, and as before afterwards.

        Args:
            say: tells the user that the first one was heard.
        """

        def stop(number: int, _: FrameType | None) -> None:
            if self.requested:
                raise KeyboardInterrupt
            self.requested = True
            say(f'{signal.Signals(number).name}: finishing this step, then saving (again: end at once)')

        before = {number: signal.signal(number, stop) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
