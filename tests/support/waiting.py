"""Waiting for a condition with a deadline, and not a moment longer than it takes.

The deadline is one for asking: what was asked too early may be answered late, when the machine stands still meanwhile,
so the last question is always one that was asked after the deadline. Nor is a moment in which the machine, or the disk
of whoever is asked, stood still counted as one in which what is awaited could have come about.
"""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Patience", "until", "wait_until"]

_Value = TypeVar("_Value")

_LONGEST_ROUND_SECONDS = 0.5
"""More than a question and the rest after it take on a busy machine. A round that took longer stood still somewhere:
whoever keeps a promise of two seconds stood still with it, and does the rest of his work afterwards."""


_LONGEST_REST_SECONDS = 0.1
_RESTS = 20
"""A rest is a twentieth of what has been waited, where that is more than was asked for, and no longer than this.
Questions that cost ten milliseconds, fifty times a second, would keep the processor from those who are waited for."""


class Patience:
    """What is left of a deadline, in rounds of a question and a rest.

    Args:
        seconds: How long at most, without what the machine stood still.
        every: How long a rest is at least, in seconds.
    """

    def __init__(self, seconds: float, every: float) -> None:
        self._left = seconds
        self._every = every
        self._longest = every + _LONGEST_ROUND_SECONDS
        self._first = self._begun = time.monotonic()

    @property
    def rest(self) -> float:
        """How long to rest now, in seconds."""
        waited = time.monotonic() - self._first
        return max(self._every, min(waited / _RESTS, _LONGEST_REST_SECONDS))

    def over(self) -> bool:
        """Whether the question that was just answered was asked after the deadline."""
        return self._left <= 0

    def round_ends(self) -> None:
        """Counts the round that ends now; a quarter of it at least, so that slow questions come to an end too."""
        now = time.monotonic()
        took, self._begun = now - self._begun, now
        self._left -= max(min(took, self._longest), took / 4)


def wait_until(
    condition: Callable[[], _Value], *, seconds: float = 30.0, what: str = "the condition", every: float = 0.02
) -> _Value:
    """The first true value that ``condition`` gives, in tests of threads and processes.

    Args:
        condition: Asked again and again.
        seconds: How long at most; a busy machine takes many times what a quiet one does.
        what: What is awaited, for the message.
        every: How long it rests between two questions at first, in seconds.

    Raises:
        AssertionError: It did not come true within ``seconds``.
    """
    patience = Patience(seconds, every)
    while not (value := condition()):
        assert not patience.over(), f"not within {seconds:g} s: {what}"
        threading.Event().wait(patience.rest)
        patience.round_ends()
    return value


async def until(condition: Callable[[], Any], *, seconds: float = 30.0, what: str = "the condition") -> Any:
    """As `wait_until`, in a test that shares its event loop with what it waits for. ``condition`` may be async."""
    every = 0.01
    patience = Patience(seconds, every)
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert not patience.over(), f"not within {seconds:g} s: {what}"
        await asyncio.sleep(patience.rest)
        patience.round_ends()
