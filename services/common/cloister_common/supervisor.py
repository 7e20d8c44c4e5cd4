"""One owner for all background work of a process: names it, restarts it, counts it, ends it.

No code of ours calls ``asyncio.create_task`` for work that outlives a function: an exception in such a task would be
lost, and so would the task at shutdown.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from prometheus_client import Counter, Gauge

from cloister_common.logs import get_logger

__all__ = ["Supervisor"]

log = get_logger(__name__)
_RESTARTS = Counter("cloister_task_restarts_total", "Background loops restarted after an error.", ["task"])
_RUNNING = Gauge("cloister_tasks_running", "Background tasks running now.", ["task"])

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


class Supervisor:
    """Runs named background tasks until `close`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()

    @property
    def running(self) -> list[str]:
        """The names of the tasks that run now."""
        return [task.get_name() for task in self._tasks]

    def loop(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        """Keeps ``body`` running: when it fails it is logged, counted and started again after a growing pause."""
        self._start(name, self._forever(name, body))

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs ``work`` once; a failure is logged under ``name``."""
        return self._start(name, self._once(name, work))

    async def close(self) -> None:
        """Asks every loop to stop, then cancels what is still running and waits for it."""
        self.stopping.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        _RUNNING.labels(name).inc()

        def done(finished: asyncio.Task[None]) -> None:
            self._tasks.discard(finished)
            _RUNNING.labels(name).dec()

        task.add_done_callback(done)
        return task

    async def _once(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("background_task_failed", task=name)

    async def _forever(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self.stopping.is_set():
            started = asyncio.get_running_loop().time()
            try:
                await body()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("background_loop_failed", task=name)
                _RESTARTS.labels(name).inc()
            if asyncio.get_running_loop().time() - started > _LONGEST_PAUSE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            try:
                await asyncio.wait_for(self.stopping.wait(), pause)
            except TimeoutError:
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
