"""Group commit: what the runs of this gateway have to write is written together, as databases do it.

A write costs a round trip, a sync of Redis's disk and some 200 µs of CPU, however much is in it. So there is one at a
time for the whole process, with what all runs have then; what comes meanwhile waits for the next. Measured: an append
costs the gateway and Redis together 250 µs alone, 40 in a group of 16 and 24 in one of 64.

What a reader waits for, the first token or the end, is written at once. Other tokens wait until a tick has passed since
the last of their kind were written: no time at all where little happens, and the longer the more runs there are, since
a run's tokens are the cheaper the more of them are sealed, written and sent together.

Each run is on its own in the group: one that was deposed or destroyed is told so, and the others are written. Nobody
can cancel a write that is under way, whose outcome would be unknown; who waits for it may leave.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from cloister_common.supervisor import Supervisor

from cloister_gateway.storage import KeyedObject
from cloister_gateway.streams.events import Append, EventStream
from cloister_gateway.streams.feeds import Feed

__all__ = ["Commits", "Source", "Writer"]

_EACH_SECONDS = 1.8e-3
"""A tick is so long for each run that wrote in it: to write some tokens of one costs the gateway and Redis 90 µs, of
whichever they take a twentieth of a core at most. Measured with 64 runs of 20 tokens a second, a token costs 0.6 of
what it does with a tick of 20 ms."""
_MOST_TICKS = 5
"""How long a tick is at most, in ticks of a quiet gateway: with the default 0.1 s, which readers hardly see."""


class Source(Protocol):
    """Where a run's events come from."""

    def take_pending(self) -> tuple[int, list[bytes]]:
        """What is to be written next: the number of the first event, and the events. They are not given again."""
        ...


class Writer:
    """The writing end of one run's stream. `Commits.writer` makes it.

    After a write that failed it writes no more, and `commit` raises the same again: behind events of which nobody
    knows whether they are there, others would leave a gap.
    """

    def __init__(self, commits: "Commits", keyed: KeyedObject, feed: Feed, source: Source) -> None:
        self._commits = commits
        self._keyed = keyed
        self._feed = feed
        self._source = source
        self._end: dict[str, bytes] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._taken: list[asyncio.Future[None]] = []
        self._closed = False
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def notice(self, *, at_once: bool) -> None:
        """Says that the source has something: to be written at once, or with the next tick."""
        if not self._closed:
            self._commits.want(self, at_once=at_once)

    async def commit(self, *, end: dict[str, bytes] | None = None) -> None:
        """Returns when all that the source has is durable, and in the feed.

        Args:
            end: Where the source's last event is the run's: fields of the response's record that change with it.

        Raises:
            DeposedError, RecordGoneError: As `EventStream.append`.
            RedisError, OSError: What Redis refuses it with; or it is unknown whether it was written.
        """
        if self._failure.done():
            await self._failure
        self._end = end
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self.notice(at_once=True)
        await waiter

    async def leave(self) -> None:
        """Writes no more, and returns when nothing is under way: what the source has now is the caller's to write.

        Raises as `commit`, if a write has failed.
        """
        self._closed = True
        self._commits.forget(self)
        await self._commits.settled()
        if self._failure.done():
            await self._failure

    async def watch(self) -> None:
        """Waits for a write to fail, whether or not somebody waits for that write. Raises as `commit`."""
        await asyncio.shield(self._failure)

    def close(self) -> None:
        """Writes no more. What is under way stays so."""
        self._closed = True
        self._commits.forget(self)

    def take(self) -> Append | None:
        """What is to be written now. If there is nothing, whoever waits is let go."""
        self._taken, self._waiting = self._waiting, []
        first, events = self._source.take_pending()
        if events:
            return Append(self._keyed, first, events, self._end)
        self._let_go()
        return None

    def written(self, append: Append, error: Exception | None) -> None:
        """Says how the write of what was taken ended."""
        if error is None:
            try:
                self._feed.extend(append.first, append.events, final=append.end is not None)
            except Exception as gap:  # noqa: BLE001 - whatever it is, it concerns this run alone, and ends it
                error = gap
        if error is None:
            self._let_go()
        else:
            self._fail(error)

    def _let_go(self) -> None:
        waiters, self._taken = self._taken, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._closed = True
        self._commits.forget(self)
        self._failure.set_exception(error)
        # A run that was closed meanwhile has no more interest in it: asyncio must not complain that nobody was told.
        self._failure.exception()
        for waiter in (*self._taken, *self._waiting):
            if not waiter.done():
                waiter.set_exception(error)
        self._taken, self._waiting = [], []


class Commits:
    """The one committer of this process.

    Args:
        stream: Writes the groups.
        tick_seconds: How long tokens are collected on a quiet gateway.

    Attributes:
        pause_seconds: How long they are collected now.
    """

    def __init__(self, stream: EventStream, *, tick_seconds: float) -> None:
        self._stream = stream
        self._tick_seconds = tick_seconds
        self._at_once: dict[Writer, None] = {}
        self._with_tick: dict[Writer, None] = {}
        self._paced: list[Callable[[], bool]] = []
        self._something = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = False
        self._due = 0.0
        self.pause_seconds = tick_seconds
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self, supervisor: Supervisor) -> None:
        """Begins to write; ends with the supervisor."""
        supervisor.loop("commits", self._work)

    def writer(self, keyed: KeyedObject, feed: Feed, source: Source) -> Writer:
        """The writing end of a run's stream: what ``source`` has is written, and then put into ``feed``."""
        return Writer(self, keyed, feed, source)

    async def settled(self) -> None:
        """Waits until no write is under way: then no more comes from runs that have ended."""
        await self._idle.wait()

    def want(self, writer: Writer, *, at_once: bool) -> None:
        """Notes that ``writer`` has something to write. Cheap: it is called with every token."""
        if at_once:
            self._at_once[writer] = None
            self._something.set()
        else:
            self._with_tick[writer] = None
            if not self._ticked:
                self._await_tick()

    def pace(self, go_on: Callable[[], bool]) -> bool:
        """Calls ``go_on`` as the next tick begins, before anything is taken for it; False if its time has come.

        For who makes events out of what arrives: to look at it sooner makes more of them, which nobody gets sooner.

        Args:
            go_on: Wakes who waits; says whether something arrived for it.
        """
        if asyncio.get_running_loop().time() >= self._due:
            return False
        self._paced.append(go_on)
        self._await_tick()
        return True

    def forget(self, writer: Writer) -> None:
        """``writer`` has nothing more to write."""
        self._at_once.pop(writer, None)
        self._with_tick.pop(writer, None)

    async def _work(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            group = [(writer, append) for writer in self._due_now() if (append := writer.take()) is not None]
            if group:
                self._idle.clear()
                try:
                    await self._write(group)
                finally:
                    self._idle.set()

    def _await_tick(self) -> None:
        if self._timer is None:
            # A time that has passed comes after all that can be read now: that is one group.
            self._timer = asyncio.get_running_loop().call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        paced, self._paced = self._paced, []
        came = [go_on() for go_on in paced]
        if any(came) or self._with_tick:
            self._ticked = True
            self._due = asyncio.get_running_loop().time() + self.pause_seconds
            # The event loop comes to the committer after those who go on: what they make now goes with this tick.
            self._something.set()

    def _due_now(self) -> list[Writer]:
        """Those that want to write at once, and all others if their time has come."""
        writers, self._at_once = self._at_once, {}
        if self._ticked:
            self._ticked = False
            writers, self._with_tick = writers | self._with_tick, {}
            pause = max(self._tick_seconds, len(writers) * _EACH_SECONDS)
            self.pause_seconds = min(pause, self._tick_seconds * _MOST_TICKS)
        return list(writers)

    async def _write(self, group: list[tuple[Writer, Append]]) -> None:
        """Writes what each writer has, and tells each how it went."""
        errors: list[Exception | None]
        try:
            errors = await self._stream.append_all([append for _, append in group])
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            errors = [error] * len(group)
        for (writer, append), refusal in zip(group, errors, strict=True):
            writer.written(append, refusal)
