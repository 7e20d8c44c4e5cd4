"""How long something took, without what the machine stood still: for promises that are about time."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stopwatch", "stopwatch"]

_TICK_SECONDS = 0.02
_LONGEST_TICK_SECONDS = 0.1
"""A tick that took longer was one in which this process was not let run, nor others, as likely as not."""


class Stopwatch:
    """Counts the ticks of a thread, so that a stall, however long, counts as one.

    It is of use where another process, or a wait, is measured: code of this process that keeps the interpreter to
    itself stops the ticks too.

    Attributes:
        seconds: What has been counted so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="stopwatch")

    def start(self) -> None:
        """Begins to count."""
        self._thread.start()

    def stop(self) -> None:
        """Counts no more."""
        self._stopping.set()
        self._thread.join()

    def _tick(self) -> None:
        begun, ends = time.monotonic(), False
        while not ends:
            ends = self._stopping.wait(_TICK_SECONDS)
            now = time.monotonic()
            self.seconds += min(now - begun, _LONGEST_TICK_SECONDS)
            begun = now


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """One that counts while the block runs."""
    watch = Stopwatch()
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()
