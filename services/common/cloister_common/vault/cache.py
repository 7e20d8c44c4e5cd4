"""Unwrapped keys in memory, for a short time: nothing stays longer, used or not.

A key that another process destroyed is still here until it is forgotten or its time is up, so the time is the bound on
how long that can be.
"""

import asyncio
import time
from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["ShortCache"]

T = TypeVar("T")


class ShortCache(Generic[T]):
    """Values by name.

    Args:
        seconds: How long each stays.
        most: How many there may be; the oldest go first.
    """

    def __init__(self, *, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        # In the order in which they came, and so in that in which they go.
        self._entries: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str) -> T | None:
        """The value, unless it is not here or its time is up."""
        found = self._entries.get(name)
        return None if found is None or found[0] <= time.monotonic() else found[1]

    def put(self, name: str, value: T) -> None:
        """Keeps the value from now on."""
        self._entries[name] = (time.monotonic() + self._seconds, value)
        self._entries.move_to_end(name)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)
        if self._timer is None:
            self._wait()

    def drop(self, name: str) -> None:
        """Drops a value; no error if there is none."""
        self._entries.pop(name, None)

    def clear(self) -> None:
        """Drops all."""
        self._entries.clear()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._purge)

    def _purge(self) -> None:
        """Drops what nobody asks for any more. One timer does for all: what came after it was set waits for another."""
        now = time.monotonic()
        while self._entries and next(iter(self._entries.values()))[0] <= now:
            self._entries.popitem(last=False)
        self._timer = None
        if self._entries:
            self._wait()
