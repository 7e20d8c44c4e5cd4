"""How busy this process is, as those who wait for it feel it: late turns of the event loop, late answers of Redis."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from prometheus_client import Gauge
from redis.exceptions import RedisError

__all__ = ["SAMPLE_SECONDS", "Load"]

_LAG = Gauge("cloister_loop_lag_seconds", "How late the event loop is with what is due, smoothed.")
_LATENCY = Gauge("cloister_redis_latency_seconds", "How long Redis takes to answer a ping, smoothed.")

SAMPLE_SECONDS = 0.1
"""Ten wake-ups a second cost an idle process 0.1 % of a core, and a second of overload is ten samples."""

_NEW = 0.3
"""Weight of a new sample: one long step, a body of 8 MiB that is parsed for 35 ms, is no load; some in a row are."""

_REDIS_EVERY = 3
"""A ping with every third sample. It is no write, so that it measures the queue in front of Redis, not a disk."""


class Load:
    """Two smoothed measures, in seconds.

    Args:
        ping: One round trip to Redis, on the connections that everybody uses.

    Attributes:
        lag: How late a timer comes.
        latency: How long ``ping`` takes, the event loop's share in it included.
    """

    def __init__(self, ping: Callable[[], Awaitable[object]]) -> None:
        self._ping = ping
        self._pinging: asyncio.Task[None] | None = None
        self._samples = 0
        self.lag = 0.0
        self.latency = 0.0

    async def sample(self) -> None:
        """Takes one sample, which lasts `SAMPLE_SECONDS` and as much longer as the loop is late."""
        if self._samples % _REDIS_EVERY == 0 and (self._pinging is None or self._pinging.done()):
            self._pinging = asyncio.create_task(self._time_redis(), name="redis-latency")
        self._samples += 1
        due = time.monotonic() + SAMPLE_SECONDS
        await asyncio.sleep(SAMPLE_SECONDS)
        self.lag += _NEW * (max(0.0, time.monotonic() - due) - self.lag)
        _LAG.set(self.lag)

    async def _time_redis(self) -> None:
        began = time.monotonic()
        # One that is away is told by those who need it; here it is only slow.
        with contextlib.suppress(RedisError, OSError):
            await self._ping()
        self.latency += _NEW * (time.monotonic() - began - self.latency)
        _LATENCY.set(self.latency)
