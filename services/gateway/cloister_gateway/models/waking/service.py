"""Holds requests to a model that rests until it is awake, sees to it that it wakes, and lets it rest again.

A request is sent to a pod only if Redis was told that the model is used, and lets nobody have it rest for as long as
that counts. One use is enough for all requests of half the idle time, so that a request to a model that is in use
costs no trip to Redis. A model is moved by whoever has its lease, and whoever waits for it looks every two seconds
whether it must be moved: so it wakes also where the gateway died that was about to do it, or somebody else has scaled
it away.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from redis.exceptions import RedisError

from cloister_gateway.models.catalog import Catalog
from cloister_gateway.models.cluster import ClusterError
from cloister_gateway.models.connections import PodClient
from cloister_gateway.models.endpoints import OpenCluster
from cloister_gateway.models.fleet import Fleet
from cloister_gateway.models.pods import Attempts
from cloister_gateway.models.waking.line import Line
from cloister_gateway.models.waking.looking import Looking
from cloister_gateway.models.waking.metrics import HELD, MOVES, WAKE_SECONDS
from cloister_gateway.models.waking.moving import Mover, Scaling, Sleeping
from cloister_gateway.models.waking.records import Phase, Standing, Told, Waking
from cloister_gateway.models.waking.refusals import not_awake, queue_full
from cloister_gateway.models.waking.store import WakingStore
from cloister_gateway.storage.client import REDIS_AWAY
from cloister_gateway.wire.faults import fault_of

__all__ = ["Waker"]

log = get_logger(__name__)

_LOOK_SECONDS = 0.5
_SEE_TO_SECONDS = 2.0
_TEND_SECONDS = 1.0
_FAULT_SECONDS = 15.0
_LONGEST_UNSEEN_SECONDS = 60.0
"""After which it is looked again what became of a model that rests, or of one that may not yet."""

_STORE_FAULTS = (RedisError, *REDIS_AWAY)


@dataclass(eq=False, slots=True)
class _Known:
    """What this gateway knows of a model: when it told Redis last that it is used, and when it looks next whether it
    may rest (monotonic seconds)."""

    used: float = float("-inf")
    look_at: float = 0.0


class Waker:
    """Wakes models, and lets them rest.

    Args:
        catalog: The models.
        fleet: Their pods.
        client: Speaks to these.
        store: What all gateways know of them together.
        open_cluster: Opens the Kubernetes API; only called where a model needs it.
    """

    def __init__(
        self, catalog: Catalog, fleet: Fleet, client: PodClient, store: WakingStore, open_cluster: OpenCluster
    ) -> None:
        self._catalog = catalog
        self._fleet = fleet
        self._store = store
        self._open_cluster = open_cluster
        looking = Looking(client)
        self._scaling = Scaling(fleet, looking)
        self._sleeping = Sleeping(fleet, client, looking)
        self._lines: dict[str, Line] = {}
        self._known: dict[str, _Known] = {}
        self._supervisor: Supervisor | None = None
        self._started = False

    def start(self, supervisor: Supervisor) -> None:
        """Looks after models that may rest, as soon as there are any; ends with the supervisor."""
        self._supervisor = supervisor
        self._catalog.subscribe(self._follow)
        self._follow()

    async def admit(self, model: str, attempts: Attempts, told: Told | None = None) -> None:
        """Lets a request to ``model`` go on, at once if it is in use, or else when it is awake.

        Args:
            model: The public name.
            attempts: Of the request: it is held no longer than its deadline.
            told: Learns where it stands.

        Raises:
            TooManyRequests: Too many are held.
            Unavailable: It did not wake in time; says what was reached.
        """
        base, waking = self._resting(model)
        if waking is None:
            return
        if self._in_use(base, waking):
            return
        now = time.monotonic()
        try:
            rests = await self._store.use(base)
        except _STORE_FAULTS as error:
            # The pods may be there all the same, and the call finds out.
            log.warning("model_use_unknown", model=base, error=type(error).__name__)
            return
        if rests:
            await self._hold(model, attempts, told)
        else:
            self._note_use(base, now)

    async def check_room(self, model: str) -> None:
        """Raises `TooManyRequests` where requests to ``model`` are held, and no further one may be."""
        base, waking = self._resting(model)
        if waking is None or (base not in self._lines and self._in_use(base, waking)):
            return
        try:
            place = await self._store.place(base, most=waking.queue)
        except _STORE_FAULTS as error:
            raise fault_of(error) from error
        if not place.position:
            raise queue_full(model, waking, place)

    async def is_awake(self, model: str) -> bool:
        """Whether ``model`` is one that may rest, and a pod of it answers now."""
        base, waking = self._resting(model)
        return waking is not None and await self._mover(waking).phase(base) == "ready"

    async def again(self, model: str, attempts: Attempts, told: Told | None = None) -> bool:
        """Holds a request that found no pod of ``model``; says whether that is one that may rest. Raises as `admit`."""
        base, waking = self._resting(model)
        if attempts.over or waking is None:
            return False
        # That it is in use says nothing of its pods, it seems.
        self._known.pop(base, None)
        # A pod that says that it is ready, and refuses each request, is not asked in a circle.
        await asyncio.sleep(_LOOK_SECONDS / 2)
        await self._hold(model, attempts, told)
        return True

    async def _hold(self, model: str, attempts: Attempts, told: Told | None) -> None:
        base, waking = self._resting(model)
        if waking is None:
            return
        attempts.held_until = attempts.held_until or time.monotonic() + waking.deadline_seconds
        left, request = attempts.held_until - time.monotonic(), secrets.token_hex(8)
        # What was promised to its caller is not refused, as when a run is taken over while the places of the gateway
        # that died with it are still counted.
        most = None if attempts.accepted else waking.queue
        try:
            place = await self._store.hold(base, request, most=most, seconds=max(left, 0.001))
        except _STORE_FAULTS as error:
            attempts.over = True
            raise fault_of(error) from error
        if not place.position:
            attempts.over = True
            raise queue_full(model, waking, place)
        line = self._joined(base, request, place.position)
        HELD.labels(base).inc()
        try:
            async with asyncio.timeout(left):
                while True:
                    await line.until_over(request, told or _untold)
                    if line.awake:
                        break
                    await asyncio.sleep(_LOOK_SECONDS)  # Whoever kept it has failed, or its places were given up.
                    with suppress(*_STORE_FAULTS):
                        left = attempts.held_until - time.monotonic()
                        await self._store.hold(base, request, most=None, seconds=max(left, 0.001))
                    line = self._joined(base, request, place.position)
        except TimeoutError as error:
            attempts.over = True
            raise not_awake(model, waking, line.phase, line.fault) from error
        finally:
            HELD.labels(base).dec()
            line.leave(request)
            self._spawn("model-held", self._leave(base, request, woken=line.awake))
        if told is not None:
            told(None)

    def _resting(self, model: str) -> tuple[str, Waking | None]:
        """Whose pods serve ``model``, and when they rest."""
        known = self._catalog.get(model)
        return known.base or model, known.waking

    def _in_use(self, model: str, waking: Waking) -> bool:
        """Whether nobody has ``model`` rest for a while yet, since this gateway said that it is used."""
        return time.monotonic() - self._known.setdefault(model, _Known()).used < waking.idle_seconds / 2

    def _note_use(self, model: str, at: float) -> None:
        """Notes that Redis was told of a use: it is this gateway that looks when the model may rest again."""
        self._known[model] = _Known(used=at)

    def _mover(self, waking: Waking) -> Mover:
        return self._sleeping if waking.workload is None else self._scaling

    def _joined(self, model: str, request: str, position: int) -> Line:
        line = self._lines.get(model)
        if line is None:
            line = self._lines[model] = Line()
            self._spawn("model-wake", self._keep(model, line))
        line.join(request, position)
        return line

    async def _leave(self, model: str, request: str, *, woken: bool) -> None:
        try:
            await self._store.leave(model, request, woken=woken)
        except _STORE_FAULTS as error:
            # It goes by its own time.
            log.warning("model_line_unchanged", model=model, error=type(error).__name__)

    async def _keep(self, model: str, line: Line) -> None:
        """Keeps ``line`` for as long as somebody is in it: wakes the model, and tells how far it is."""
        began = changed = time.monotonic()
        awake = False
        try:
            while len(line) and not awake and not line.lost:
                before = line.phase
                awake = await self._look(model, line)
                if line.phase != before:
                    changed = self._spent(model, line, before, changed)
                if not awake:
                    await asyncio.sleep(_LOOK_SECONDS)
            if awake and line.moved:
                WAKE_SECONDS.labels(model, "all").observe(time.monotonic() - began)
        finally:
            if self._lines.get(model) is line:
                del self._lines[model]
            line.end(awake=awake)

    async def _look(self, model: str, line: Line) -> bool:
        """Looks once how far the model is, has it woken where that is to be done, and says whether it is awake."""
        known = self._catalog.find(model)
        if known is None or known.waking is None:
            return True  # It rests no more: the calls find out what is there.
        waking = known.waking
        now, phase = time.monotonic(), line.phase
        positions: dict[str, int] = {}
        resting = True
        try:
            resting, held, line.lost = await self._store.line(model)
            self._note_use(model, now)
            positions = {request: at for at, request in enumerate(held, 1)}
            if resting or now >= line.see_to_at:
                line.see_to_at = now + _SEE_TO_SECONDS
                resting = not await self._see_to(model, waking, line, resting=resting)
            phase = await self._mover(waking).phase(model)
        except _STORE_FAULTS as error:
            log.warning("model_line_unknown", model=model, error=type(error).__name__)
        line.note(phase, positions)
        return phase == "ready" and not resting

    def _spent(self, model: str, line: Line, phase: Phase | None, since: float) -> float:
        """Counts the time that a waking was in ``phase``, and notes that it is in another now; since when."""
        now = time.monotonic()
        if line.moved and phase is not None:
            WAKE_SECONDS.labels(model, phase).observe(now - since)
        log.info("model_wakes", model=model, phase=line.phase, before=phase, seconds=round(now - since, 3))
        return now

    async def _see_to(self, model: str, waking: Waking, line: Line, *, resting: bool) -> bool:
        """Wakes the model where that is to be done; says whether it does not rest any more."""
        mover = self._mover(waking)
        try:
            if await mover.is_up(model, waking) and not resting:
                line.fault = None
                return True
            async with self._leased(model) as taken:
                if not taken:
                    return False
                if await mover.wake(model, waking):
                    line.moved = True
                    MOVES.labels(model, "wake").inc()
                    log.warning("model_woken", model=model)
                await self._store.awake(model)
        except ClusterError as error:
            if line.fault is None:
                log.warning("model_not_moved", model=model, reason=str(error))
            line.fault = "its workload cannot be scaled now"
            return not resting
        line.fault = None
        return True

    @asynccontextmanager
    async def _leased(self, model: str) -> AsyncIterator[bool]:
        """A block with the model's lease, if it is free."""
        taken = await self._store.take(model)
        try:
            yield taken
        finally:
            if taken:
                await self._store.release(model)

    def _follow(self) -> None:
        if self._supervisor is not None and not self._started and any(model.waking for model in self._catalog):
            self._started = True
            self._supervisor.loop("model-rests", self._run)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        assert self._supervisor is not None, "it is started with the gateway"
        self._supervisor.spawn(name, work)

    async def _run(self) -> None:
        """Lets models rest that nobody uses."""
        async with AsyncExitStack() as stack:
            while True:
                resting = {model.name: model.waking for model in self._catalog.bases() if model.waking is not None}
                if self._scaling.cluster is None and any(waking.workload for waking in resting.values()):
                    try:
                        self._scaling.cluster = await stack.enter_async_context(self._open_cluster())
                        stack.callback(setattr, self._scaling, "cluster", None)
                    except ClusterError as error:
                        log.error("models_not_moved", reason=str(error))
                await asyncio.gather(*(self._tend(model, waking) for model, waking in resting.items()))
                shortest = min((waking.idle_seconds / 4 for waking in resting.values()), default=_TEND_SECONDS)
                await asyncio.sleep(min(shortest, _TEND_SECONDS))

    async def _tend(self, model: str, waking: Waking) -> None:
        known, now = self._known.setdefault(model, _Known()), time.monotonic()
        try:
            if self._fleet[model].running:
                if now - known.used >= waking.idle_seconds / 4:
                    await self._store.use(model)
                    known.used = now
            elif model not in self._lines and now >= known.look_at:
                known.look_at = now + await self._rest(model, waking)
        except (*_STORE_FAULTS, ClusterError) as error:
            known.look_at = now + _FAULT_SECONDS
            reason = str(error) if isinstance(error, ClusterError) else type(error).__name__
            log.warning("model_not_moved", model=model, reason=reason)

    async def _rest(self, model: str, waking: Waking) -> float:
        """Lets the model rest if it may; seconds until it is worth a look again."""
        idle = await self._store.rest(model, waking.idle_seconds)
        if idle.verdict == "used":
            return min(idle.left, _LONGEST_UNSEEN_SECONDS)
        if idle.verdict == "moved":
            return _TEND_SECONDS
        mover, rests, moved = self._mover(waking), False, False
        try:
            if idle.verdict == "rest" or waking.workload is None:
                # (A pod that began anew while its model sleeps is awake.)
                moved, rests = await mover.rest(model, waking), True
            else:
                # Whoever has scaled a model up that rests shall have it, until it was idle again.
                rests = not await mover.is_up(model, waking)
            if not rests:
                await self._store.awake(model)
        except ClusterError:
            await self._store.awake(model, used=False)
            raise
        finally:
            await self._store.release(model)
        if moved:
            MOVES.labels(model, "rest").inc()
            log.warning("model_rests", model=model)
        return _LONGEST_UNSEEN_SECONDS


def _untold(standing: Standing) -> None:
    """Nobody wants to know."""
