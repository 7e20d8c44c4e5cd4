"""Places for generations: asked for, waited for in turn, refused while it would take too long, given back.

Whoever begins a generation for a caller asks for a place first, before it parses or stores anything: `Admission.ask`
decides at once, so that a refusal costs next to nothing. A run counts for itself (`Admission.counted`) from when it is
accepted to its end, whoever watches it and whichever gateway accepted it; one that is taken over from a dead gateway
is counted and never refused.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from prometheus_client import Counter, Gauge

from cloister_gateway.admission.bound import Bound
from cloister_gateway.admission.doorway import Doorway
from cloister_gateway.admission.load import Load
from cloister_gateway.admission.pace import Pace
from cloister_gateway.admission.place import Overloaded, Place
from cloister_gateway.admission.queue import FairQueue
from cloister_gateway.settings import AdmissionSettings

__all__ = ["Admission", "Overloaded", "Place"]

log = get_logger(__name__)
_TAKEN = Gauge("cloister_generations", "Places for generations that are taken.")
_WAITING = Gauge("cloister_generations_waiting", "Requests that wait for a place.")
_ADMITTED = Counter("cloister_generations_admitted_total", "Requests that got a place.", ["waited"])
_REFUSED = Counter("cloister_generations_refused_total", "Requests that were told to come back later.", ["reason"])

_CALM_SECONDS = 5.0
"""So long nobody must have been refused before it counts as over."""


class Admission:
    """The places of this gateway.

    Args:
        settings: The limits.
        ping: One round trip to Redis.
    """

    def __init__(self, settings: AdmissionSettings, ping: Callable[[], Awaitable[object]]) -> None:
        self._settings = settings
        self._load = Load(ping)
        self._bound = Bound(settings)
        self._pace = Pace()
        self._doorway = Doorway()
        self._queue: FairQueue[Place] = FairQueue(settings.waiting)
        self._taken = 0
        self._refusing_since: float | None = None
        self._last_refusal = 0.0
        self._refusals = 0

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._queue)

    def start(self, supervisor: Supervisor) -> None:
        """Begins to measure; ends with the supervisor."""
        supervisor.loop("admission", self._measure)

    def ask(self, tenant: str) -> Place:
        """A place for one more generation, or a way to one (`Place.wait`), at once.

        Raises:
            Overloaded: It would take too long.
        """
        place = Place(self, tenant)
        if not self._queue and self._taken < self._bound.most:
            self._count(1)
            _ADMITTED.labels("no").inc()
            return place
        if not self._queue.fits(tenant):
            raise self.refuse(place, "queue_full")
        expected = self._bound.expected
        in_time = max(0, expected - self._taken) + self._settings.wait_seconds * self._pace.rate(expected)
        weight = self._settings.share_of(tenant)
        if self._queue.ahead(tenant, weight=weight) > in_time:
            raise self.refuse(place, "wait_too_long")
        self._queue.add(tenant, place.queued(), weight=weight)
        _WAITING.set(len(self._queue))
        return place

    @asynccontextmanager
    async def accepting(self, tenant: str) -> AsyncIterator[None]:
        """Waits for a place, which is taken while the block accepts a run; from then on the run counts for itself.

        Raises:
            Overloaded: It would take too long.
        """
        place = self.ask(tenant)
        await place.wait()
        try:
            await self.begin()
            yield
        finally:
            place.hand_over()

    async def begin(self) -> None:
        """Whoever has a place begins with this: in a rush, in its turn."""
        await self._doorway.go_through()

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[None]:
        """Takes a place while the block runs, free or not: what was accepted goes on."""
        self._count(1)
        began = time.monotonic()
        try:
            yield
        finally:
            self._pace.held(time.monotonic() - began)
            self._free()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Around a wait of something that has a place: it costs this process nothing meanwhile, and keeps no place
        from others. Afterwards it goes on, whether or not there is a free one."""
        self._count(-1)
        self._serve()
        try:
            yield
        finally:
            self._count(1)

    def refuse(self, place: Place, reason: str) -> Overloaded:
        """The refusal of ``place``, counted and logged."""
        now = time.monotonic()
        if self._refusing_since is None:
            self._refusing_since, self._refusals = now, 0
            log.warning("generations_refused", **self._state())
        self._last_refusal = now
        self._refusals += 1
        _REFUSED.labels(reason).inc()
        return Overloaded(self._pace.retry_after(self._queue.ahead(place.tenant), self._bound.most))

    def left(self, place: Place, held_seconds: float | None) -> None:
        """``place`` is needed no more. For `Place` only."""
        if place.waits:
            self._queue.remove(place.tenant, place)
            _WAITING.set(len(self._queue))
            return
        if held_seconds is not None:
            self._pace.held(held_seconds)
        self._free()

    def _free(self) -> None:
        self._count(-1)
        self._serve()

    def _serve(self) -> None:
        """Gives free places to those who wait."""
        while self._queue and self._taken < self._bound.most:
            if self._queue.take().grant():
                self._count(1)
                self._pace.served()
                _ADMITTED.labels("yes").inc()
            _WAITING.set(len(self._queue))

    def _count(self, change: int) -> None:
        self._taken += change
        _TAKEN.set(self._taken)

    async def _measure(self) -> None:
        before = time.monotonic()
        while True:
            await self._load.sample()
            now = time.monotonic()
            wanted = bool(self._queue) or self._taken >= self._bound.most
            self._bound.follow(self._load, running=self._taken, wanted=wanted)
            self._pace.pass_time(now - before, self._bound.most)
            before = now
            self._serve()
            if self._refusing_since is not None and now - self._last_refusal > _CALM_SECONDS:
                seconds = round(self._last_refusal - self._refusing_since, 1)
                log.info("generations_no_longer_refused", refused=self._refusals, seconds=seconds, **self._state())
                self._refusing_since = None

    def _state(self) -> dict[str, float]:
        return {
            "generations": self._taken,
            "bound": self._bound.most,
            "waiting": len(self._queue),
            "loop_lag": round(self._load.lag, 3),
            "redis_latency": round(self._load.latency, 3),
        }
