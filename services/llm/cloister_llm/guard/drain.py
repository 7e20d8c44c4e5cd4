"""A clean end: on SIGTERM new requests are refused, running ones may finish, and what is left is ended in time.

vLLM 0.32 drains its engine but, when the time is over, kills it and leaves every open stream hanging: the client waits
for a line that never comes, and the process waits for the client. So the guard drains by itself: it knows the running
requests, and cancels the last of them (vLLM then aborts their generation) before it asks the server to stop.
"""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor

__all__ = ["Drain"]

log = get_logger(__name__)

_CANCEL_SECONDS = 5.0
"""How long a cancelled request may take to end: one that does not hear must not keep the process."""


class Drain:
    """The running requests of this process, and their end."""

    def __init__(self, seconds: float, supervisor: Supervisor) -> None:
        """``seconds``: how long running requests may take once the end has begun."""
        self.seconds = seconds
        self.begun = False
        self._running: set[asyncio.Task[Any]] = set()
        self._supervisor = supervisor

    @property
    def running(self) -> int:
        """How many requests run."""
        return len(self._running)

    def on_signals(self, stop: Callable[[], None]) -> None:
        """Begins at SIGTERM and SIGINT, instead of whatever the server had planned; calls ``stop`` at the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.begin, stop)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Counts the current task as a running request."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            yield
        finally:
            self._running.discard(task)

    def begin(self, stop: Callable[[], None]) -> None:
        """Refuses new requests from now on, and calls ``stop`` when the running ones are done or out of time."""
        if not self.begun:
            self.begun = True
            self._supervisor.spawn("drain", self._finish(stop))

    async def _finish(self, stop: Callable[[], None]) -> None:
        log.info("drain_started", running=len(self._running), seconds=self.seconds)
        cut_off: set[asyncio.Task[Any]] = set()
        if self._running:
            _, cut_off = await asyncio.wait(set(self._running), timeout=self.seconds)
        for task in cut_off:
            task.cancel()
        if cut_off:
            await asyncio.wait(cut_off, timeout=_CANCEL_SECONDS)
        log.info("drain_finished", cut_off=len(cut_off))
        stop()
