"""Waiting for a condition with a deadline, in tests of threads and processes."""

import threading
import time
from collections.abc import Callable

__all__ = ["wait_until"]


def wait_until(condition: Callable[[], object], *, seconds: float = 30.0, what: str = "the condition") -> None:
    """Waits until ``condition`` gives something true; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:g} s"
        threading.Event().wait(0.02)
