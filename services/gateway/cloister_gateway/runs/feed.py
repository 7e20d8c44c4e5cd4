"""Fan-out inside one gateway: every run that anyone here watches is held once, and each watcher is a position in it.

A watcher has no queue of its own that could fill up: it reads `Feed.events` from where it stands, at its own pace,
and is woken when there is more. So a slow reader costs nothing, and the run never waits for one. Runs of this
gateway put their events in directly; for runs of others, a message on the gateway's one Redis subscription says that
there is more to read.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from cloister_common.supervisor import Supervisor

from cloister_gateway.bus import Bus, Subscription
from cloister_gateway.runs.events import EventStream, wake_channel
from cloister_gateway.state import Owner

__all__ = ["Feed", "Hub"]

_POLL_SECONDS = 2.0
"""How often remote runs are read again without being woken, in case a wake-up was lost with its connection."""


class Feed:
    """The events of one run, as JSON bytes; the list index is the sequence number."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.events: list[bytes] = []
        self.final = False
        self.local = False
        self.watchers = 0
        self._last_entry = b"0-0"
        self._wakers: set[Callable[[], None]] = set()
        self._reading = asyncio.Lock()

    def extend(self, first: int, events: list[bytes], *, final: bool, entry_id: bytes | None = None) -> None:
        """Adds events from number ``first`` on; those that are here already are passed over."""
        known = len(self.events) - first
        if known < 0:
            raise ValueError("events must come without gaps")
        self.events.extend(events[known:])
        self.final = self.final or final
        self._last_entry = entry_id or b"%d-0" % (first + 1)
        for wake in tuple(self._wakers):
            wake()

    async def pull(self, stream: EventStream) -> None:
        """Reads what is new in Redis."""
        async with self._reading:
            for group in await stream.read(self.owner, self._last_entry):
                self.extend(group.first, group.events, final=group.final, entry_id=group.entry_id)

    def on_more(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Calls ``wake`` whenever there is more; returns what ends that."""
        self._wakers.add(wake)
        return lambda: self._wakers.discard(wake)

    async def follow(self, after: int = -1) -> AsyncIterator[list[bytes]]:
        """Yields the events after number ``after``, as many at a time as there are, until the run has ended."""
        more = asyncio.Event()
        stop = self.on_more(more.set)
        position = after + 1
        try:
            while True:
                more.clear()
                batch = self.events[position:]
                if batch:
                    position += len(batch)
                    yield batch
                elif self.final:
                    return
                else:
                    await more.wait()
        finally:
            stop()


class Hub:
    """All feeds of this gateway."""

    def __init__(self, stream: EventStream, bus: Bus, supervisor: Supervisor) -> None:
        self._stream = stream
        self._bus = bus
        self._feeds: dict[str, Feed] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._stale: set[Feed] = set()
        self._something_stale = asyncio.Event()
        supervisor.loop("feeds", self._keep_current)

    @asynccontextmanager
    async def watch(self, owner: Owner) -> AsyncIterator[Feed]:
        """The run's feed, filled with what has happened so far, kept current while the block runs."""
        feed = self._feeds.setdefault(owner.id, Feed(owner))
        feed.watchers += 1
        try:
            if not feed.local:
                await self._attach(feed)
            yield feed
        finally:
            feed.watchers -= 1
            await self._let_go(feed)

    @asynccontextmanager
    async def own(self, owner: Owner) -> AsyncIterator[Feed]:
        """The feed of a run that this gateway runs: the run itself extends it, not what is read from Redis."""
        feed = self._feeds.setdefault(owner.id, Feed(owner))
        feed.local = True
        try:
            await self._detach(feed)
            await feed.pull(self._stream)
            yield feed
        finally:
            feed.local = False
            # Watchers that are left follow the next owner from the next poll on; Redis may be down just now.
            await self._let_go(feed)

    async def _attach(self, feed: Feed) -> None:
        """Has the feed follow what other gateways write."""
        if feed.owner.id not in self._subscriptions and not feed.final:
            mark = partial(self._mark_stale, feed)
            subscription = await self._bus.subscribe(wake_channel(feed.owner.id), lambda _: mark(), mark)
            self._subscriptions[feed.owner.id] = subscription
        await feed.pull(self._stream)

    async def _detach(self, feed: Feed) -> None:
        subscription = self._subscriptions.pop(feed.owner.id, None)
        if subscription is not None:
            await self._bus.unsubscribe(subscription)

    async def _let_go(self, feed: Feed) -> None:
        if feed.watchers == 0 and not feed.local and self._feeds.get(feed.owner.id) is feed:
            del self._feeds[feed.owner.id]
            await self._detach(feed)

    def _mark_stale(self, feed: Feed) -> None:
        self._stale.add(feed)
        self._something_stale.set()

    async def _keep_current(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._something_stale.wait(), _POLL_SECONDS)
            except TimeoutError:
                for feed in [feed for feed in self._feeds.values() if not (feed.final or feed.local)]:
                    await self._attach(feed)
            self._something_stale.clear()
            feeds, self._stale = self._stale, set()
            await asyncio.gather(*(feed.pull(self._stream) for feed in feeds if not feed.local))
