"""Places for generations: asked for, waited for in turn, refused while it would take too long, given back.

Whoever begins a generation for a caller asks for a place first, before it parses or stores anything: `Admission.ask`
decides at once, so that a refusal costs next to nothing. A run counts for itself (`Admission.counted`) from when it is
accepted to its end, whoever watches it and whichever gateway accepted it; one that is taken over from a dead gateway
is counted and never refused.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from cloister_common.errors import TooManyRequests
from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from prometheus_client import Counter, Gauge

from cloister_gateway.admission.bound import Bound
from cloister_gateway.admission.load import Load
from cloister_gateway.admission.pace import Pace
from cloister_gateway.admission.queue import FairQueue
from cloister_gateway.settings import AdmissionSettings

__all__ = ["Admission", "Overloaded", "Place"]

log = get_logger(__name__)
_TAKEN = Gauge("cloister_generations", "Places for generations that are taken.")
_WAITING = Gauge("cloister_generations_waiting", "Requests that wait for a place.")
_ADMITTED = Counter("cloister_generations_admitted_total", "Requests that got a place.", ["waited"])
_REFUSED = Counter("cloister_generations_refused_total", "Requests that were told to come back later.", ["reason"])

_LONGEST_WAIT_SECONDS = 55.0
"""Whatever was expected: proxies hang up on a request that is silent for a minute."""
_CALM_SECONDS = 5.0
"""So long nobody must have been refused before it counts as over."""


class Overloaded(TooManyRequests):
    """There are as many generations as can be done, and others wait before this one. Nothing in it is the caller's."""

    code = "server_overloaded"

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            "The server has as many generations as it can do, and others wait before this one. Try again after the "
            "seconds that Retry-After says.",
            retry_after=retry_after,
        )


class Place:
    """One generation's place, or the way to it. Give it back, or hand it over; twice is no error.

    Attributes:
        tenant: Whose it is.
        waits: Whether it stands in the queue.
    """

    __slots__ = ("_admission", "_granted", "_since", "tenant", "waits")

    def __init__(self, admission: "Admission", tenant: str, granted: "asyncio.Future[None] | None") -> None:
        self._admission: Admission | None = admission
        self._granted = granted
        self._since = time.monotonic()
        self.tenant = tenant
        self.waits = granted is not None

    async def wait(self) -> None:
        """Returns when its turn has come. What waits is given back where that fails, or its caller is cancelled.

        Raises:
            Overloaded: It took much longer than was expected.
        """
        if self._granted is None:
            return
        try:
            async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
                await self._granted
        except TimeoutError:
            assert self._admission is not None
            refusal = self._admission.refuse(self.tenant, "waited_too_long")
            self.give_back()
            raise refusal from None
        except BaseException:
            self.give_back()
            raise
        self._since = time.monotonic()

    def grant(self) -> bool:
        """Its turn has come: it stands in the queue no more. False where its caller has just been cancelled."""
        assert self._granted is not None
        self.waits = False
        if self._granted.done():
            self._admission = None
            return False
        self._granted.set_result(None)
        return True

    def give_back(self) -> None:
        """The generation has ended, or will not be."""
        self._leave(time.monotonic() - self._since)

    def hand_over(self) -> None:
        """The run that it was for is counted itself from now on."""
        self._leave(None)

    def _leave(self, held_seconds: float | None) -> None:
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.left(self, held_seconds)


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
        if not self._queue and self._taken < self._bound.most:
            self._count(1)
            _ADMITTED.labels("no").inc()
            return Place(self, tenant, None)
        if not self._queue.fits(tenant):
            raise self.refuse(tenant, "queue_full")
        expected = self._bound.expected
        in_time = max(0, expected - self._taken) + self._settings.wait_seconds * self._pace.rate(expected)
        if self._queue.ahead(tenant) > in_time:
            raise self.refuse(tenant, "wait_too_long")
        place = Place(self, tenant, asyncio.get_running_loop().create_future())
        self._queue.add(tenant, place)
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
            yield
        finally:
            place.hand_over()

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

    def refuse(self, tenant: str, reason: str) -> Overloaded:
        """The refusal of one more of ``tenant``, counted and logged."""
        now = time.monotonic()
        if self._refusing_since is None:
            self._refusing_since, self._refusals = now, 0
            log.warning("generations_refused", **self._state())
        self._last_refusal = now
        self._refusals += 1
        _REFUSED.labels(reason).inc()
        return Overloaded(self._pace.retry_after(self._queue.ahead(tenant), self._bound.most))

    def left(self, place: Place, held_seconds: float | None) -> None:
        """``place`` is needed no more; it was held so long, or goes on elsewhere. For `Place` only."""
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
