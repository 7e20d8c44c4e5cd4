"""Fan-out inside one gateway: every run that anyone here watches is held once, and each watcher is a position in it.

A watcher has no queue of its own that could fill up: it reads `Feed.events` from where it stands, at its own pace,
and is woken when there is more. So a slow reader costs nothing, and the run never waits for one. Runs of this
gateway put their events in directly; for runs of others, a message on the gateway's one Redis subscription says that
there is more to read.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType

from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor

from cloister_gateway.bus.connection import Bus, Subscription
from cloister_gateway.storage import DamagedError, KeyedObject
from cloister_gateway.storage.client import REDIS_DOWN
from cloister_gateway.storage.layout import run_channel
from cloister_gateway.streams.events import EventStream, damaged_stream

__all__ = ["Feed", "Hub"]

log = get_logger(__name__)

_POLL_SECONDS = 2.0
"""How often remote runs are read again without being woken, in case a wake-up was lost with its connection."""


class Feed:
    """The events of one run, as JSON bytes; the list index is the sequence number.

    Attributes:
        keyed: The response.
        events: What has happened so far.
        final: Whether the last of them ended the run.
        local: Whether the run is this gateway's own, and extends the feed itself.
        watchers: How many follow it here.
        subscription: What wakes it while it is not local.
        changing: Held while the subscription changes.
    """

    def __init__(self, keyed: KeyedObject) -> None:
        self.keyed = keyed
        self.events: list[bytes] = []
        self.final = False
        self.local = False
        self.watchers = 0
        self.subscription: Subscription | None = None
        self.changing = asyncio.Lock()
        self._error: Exception | None = None
        self._last_entry = b"0-0"
        self._wakers: set[Callable[[], None]] = set()
        self._reading = asyncio.Lock()

    def extend(self, first: int, events: list[bytes], *, final: bool, entry_id: bytes | None = None) -> None:
        """Adds events from number ``first`` on; those that are here already are passed over.

        Raises:
            DamagedError: Events before ``first`` are missing.
        """
        known = len(self.events) - first
        if known < 0:
            raise DamagedError(damaged_stream(self.keyed))
        self.events.extend(events[known:])
        self.final = self.final or final
        self._last_entry = entry_id or b"%d-0" % (first + 1)
        self._wake()

    def fail(self, error: Exception) -> None:
        """Ends the feed without an end of the run: every watcher gets ``error`` after the events there are."""
        self._error = error
        self._wake()

    async def pull(self, stream: EventStream) -> None:
        """Reads what is new in Redis. Raises as `EventStream.read` and `extend`."""
        async with self._reading:
            if self.final:
                return
            for group in await stream.read(self.keyed, self._last_entry):
                self.extend(group.first, group.events, final=group.final, entry_id=group.entry_id)

    async def follow(self, after: int = -1) -> AsyncGenerator[list[bytes], None]:
        """Yields the events after number ``after``, as many at a time as there are, until the run has ended."""
        more = asyncio.Event()
        position = after + 1
        self._wakers.add(more.set)
        try:
            while True:
                more.clear()
                batch = self.events[position:]
                if batch:
                    position += len(batch)
                    yield batch
                elif self.final:
                    return
                elif self._error is not None:
                    raise self._error
                else:
                    await more.wait()
        finally:
            self._wakers.discard(more.set)

    def _wake(self) -> None:
        for wake in tuple(self._wakers):
            wake()


class Hub:
    """All feeds of this gateway."""

    def __init__(self, stream: EventStream, bus: Bus, supervisor: Supervisor) -> None:
        self._stream = stream
        self._bus = bus
        self._supervisor = supervisor
        self._feeds: dict[str, Feed] = {}
        self._stale: set[Feed] = set()
        self._something_stale = asyncio.Event()

    @property
    def held(self) -> Mapping[str, Feed]:
        """The feeds there are now, by the id of their response."""
        return MappingProxyType(self._feeds)

    def start(self) -> None:
        """Begins to keep the feeds current that others' runs fill."""
        self._supervisor.loop("feeds", self._keep_current)

    @asynccontextmanager
    async def watch(self, keyed: KeyedObject) -> AsyncIterator[Feed]:
        """The run's feed, filled with what has happened so far, kept current while the block runs.

        Raises:
            RecordGoneError: The response was destroyed.
            StreamDroppedError: Its run has ended, and nothing is kept of its stream.
            DamagedError: Its stream does not open or has a gap.
            Unavailable: Redis does not answer.
        """
        feed = self._feed(keyed)
        feed.watchers += 1
        try:
            await self._refresh(feed)
            yield feed
        finally:
            feed.watchers -= 1
            await self._let_go(feed)

    def is_own(self, keyed: KeyedObject) -> bool:
        """Whether this gateway runs the response now, so that its feed has all there is."""
        feed = self._feeds.get(keyed.id)
        return feed is not None and feed.local and bool(feed.events)

    @asynccontextmanager
    async def own(self, keyed: KeyedObject, begun: list[bytes] | None = None) -> AsyncIterator[Feed]:
        """The feed of a run that this gateway runs: the run itself extends it, not what is read from Redis.

        Args:
            keyed: The response.
            begun: Its events so far, where this gateway has just written them; otherwise they are read.
        """
        feed = self._feed(keyed)
        feed.local = True
        try:
            await self._detach(feed)
            if begun is None:
                await feed.pull(self._stream)
            else:
                feed.extend(0, begun, final=False)
            yield feed
        finally:
            feed.local = False
            # Watchers that are left follow the next holder, or learn that there will be none.
            self._mark_stale(feed)
            await self._let_go(feed)

    async def _refresh(self, feed: Feed) -> None:
        """Has the feed follow what other gateways write, and reads what they have written."""
        if feed.local:
            return
        async with feed.changing:
            # (Whoever asked for this may have left before it began: nobody would end the subscription.)
            if feed.subscription is None and feed.watchers and not feed.final:
                channel = run_channel(feed.keyed.id, sharded=self._bus.sharded)
                feed.subscription = await self._bus.subscribe(
                    channel, lambda _: self._mark_stale(feed), lambda: self._mark_stale(feed)
                )
        await feed.pull(self._stream)

    async def _detach(self, feed: Feed) -> None:
        async with feed.changing:
            subscription, feed.subscription = feed.subscription, None
            if subscription is not None:
                await self._bus.unsubscribe(subscription)

    async def _let_go(self, feed: Feed) -> None:
        if feed.watchers == 0 and not feed.local:
            self._forget(feed)
            await self._detach(feed)

    def _feed(self, keyed: KeyedObject) -> Feed:
        """The feed of the object's run. An id out of a store must not lead to what is held here for another tenant."""
        feed = self._feeds.setdefault(keyed.id, Feed(keyed))
        if feed.keyed.key.tenant != keyed.key.tenant:
            raise DamagedError(damaged_stream(keyed))
        return feed

    def _forget(self, feed: Feed) -> None:
        if self._feeds.get(feed.keyed.id) is feed:
            del self._feeds[feed.keyed.id]

    def _mark_stale(self, feed: Feed) -> None:
        self._stale.add(feed)
        self._something_stale.set()

    async def _keep_current(self) -> None:
        loop = asyncio.get_running_loop()
        next_poll = loop.time() + _POLL_SECONDS
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_poll):
                    await self._something_stale.wait()
            self._something_stale.clear()
            feeds, self._stale = self._stale, set()
            if loop.time() >= next_poll:
                feeds.update(self._feeds.values())
                next_poll = loop.time() + _POLL_SECONDS
            followed = [feed for feed in feeds if feed.watchers and not (feed.final or feed.local)]
            await asyncio.gather(*(self._keep(feed) for feed in followed))

    async def _keep(self, feed: Feed) -> None:
        """Refreshes one feed. What is wrong with it concerns its own watchers only."""
        try:
            await self._refresh(feed)
        except (*REDIS_DOWN, Unavailable):
            return  # The next poll tries again.
        except Exception as error:  # noqa: BLE001 - the watchers are told, whatever it is
            self._forget(feed)
            feed.fail(error)
