"""Waiting for a condition with a deadline, and not a moment longer than it takes."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["until", "wait_until"]

_Value = TypeVar("_Value")


def wait_until(
    condition: Callable[[], _Value], *, seconds: float = 30.0, what: str = "the condition", every: float = 0.02
) -> _Value:
    """The first true value that ``condition`` gives, in tests of threads and processes.

    Args:
        condition: Asked again and again.
        seconds: How long at most; a busy machine takes many times what a quiet one does.
        what: What is awaited, for the message.
        every: How long it rests between two questions, in seconds.

    Raises:
        AssertionError: It did not come true within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        threading.Event().wait(every)
    return value


async def until(condition: Callable[[], Any], *, seconds: float = 30.0, what: str = "the condition") -> Any:
    """As `wait_until`, in a test that shares its event loop with what it waits for. ``condition`` may be async."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.01)
