"""One committer for all runs: who waits for what, and what becomes of those in a write that fails."""

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import cast

import pytest
import uvloop
from cloister_common.supervisor import Supervisor
from cloister_common.vault import DataKey
from cloister_gateway.storage import RESPONSE, KeyedObject
from cloister_gateway.streams.commits import Commits, Writer
from cloister_gateway.streams.events import Append, DeposedError, EventStream
from cloister_gateway.streams.feeds import Feed
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.waiting import until

LONG = 3600.0
"""A tick that no test lives to see."""


class Store:
    """What a stream keeps, by response. Writes can be held, and fail for some runs or for all."""

    def __init__(self) -> None:
        self.groups: list[list[Append]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.refused: dict[str, Exception] = {}
        self.broken: Exception | None = None

    async def append_all(self, appends: Sequence[Append]) -> list[Exception | None]:
        self.groups.append(list(appends))
        await self.open.wait()
        if self.broken is not None:
            raise self.broken
        return [self.refused.get(append.keyed.id) for append in appends]

    def sizes(self) -> list[int]:
        return [len(group) for group in self.groups]

    def of(self, run: "Run") -> list[bytes]:
        return [event for group in self.groups for one in group if one.keyed is run.keyed for event in one.events]


class Run:
    """A run that only talks."""

    def __init__(self, number: int, commits: Commits) -> None:
        self.keyed = KeyedObject(RESPONSE, f"resp_{number}", DataKey(bytes(32), tenant="proj_a"))
        self.feed = Feed(self.keyed)
        self.writer: Writer = commits.writer(self.keyed, self.feed, self)
        self._pending: list[bytes] = []
        self._next = 0

    def say(self, word: bytes, *, at_once: bool = False) -> None:
        self._pending.append(word)
        self.writer.notice(at_once=at_once)

    def is_written(self) -> bool:
        return len(self.feed.events) == self._next and not self._pending

    def has(self, count: int) -> bool:
        return len(self.feed.events) == count

    def take_pending(self) -> tuple[int, list[bytes]]:
        events, self._pending = self._pending, []
        self._next += len(events)
        return self._next - len(events), events


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def commits(store: Store) -> AsyncIterator[Commits]:
    """A committer whose first tick is over, and whose next never comes."""
    supervisor = Supervisor()
    commits = Commits(cast("EventStream", store), tick_seconds=LONG)
    commits.start(supervisor)
    first = Run(0, commits)
    first.say(b"first")
    await first.writer.commit()
    store.groups.clear()
    yield commits
    await supervisor.close()


async def test_a_first_token_is_written_at_once_and_others_wait(store: Store, commits: Commits) -> None:
    one, other = Run(1, commits), Run(2, commits)
    one.say(b"later")
    other.say(b"now", at_once=True)
    await until(lambda: other.feed.events == [b"now"], what="the first token is there")
    assert store.sizes() == [1]
    assert one.feed.events == []


async def test_a_last_event_waits_for_no_tick_and_takes_along_what_was_before_it(
    store: Store, commits: Commits
) -> None:
    run = Run(1, commits)
    run.say(b"a")
    run.say(b"b")
    await run.writer.commit(end={"done": b"1"})
    assert run.feed.events == [b"a", b"b"]
    assert run.feed.final
    (((append,)),) = store.groups
    assert append.end == {"done": b"1"}


async def test_what_comes_during_a_write_is_the_next_one(store: Store, commits: Commits) -> None:
    runs = [Run(number, commits) for number in range(1, 9)]
    store.open.clear()
    runs[0].say(b"a", at_once=True)
    await until(lambda: store.sizes() == [1], what="the first write is under way")
    for run in runs:
        run.say(b"b", at_once=True)
    await asyncio.sleep(0)
    assert all(run.feed.events == [] for run in runs), "nobody sees what is not stored"
    store.open.set()
    await until(lambda: all(run.feed.events[-1:] == [b"b"] for run in runs), what="all is written")
    assert store.sizes() == [1, 8]
    assert runs[0].feed.events == [b"a", b"b"]


async def test_a_waiter_that_leaves_stops_no_write(store: Store, commits: Commits) -> None:
    run = Run(1, commits)
    store.open.clear()
    run.say(b"a")
    waiter = asyncio.create_task(run.writer.commit())
    await until(lambda: store.sizes() == [1], what="the write is under way")
    waiter.cancel()
    settled = asyncio.create_task(commits.settled())
    await asyncio.sleep(0)
    assert not settled.done()
    store.open.set()
    await settled
    assert run.feed.events == [b"a"]


async def test_a_refused_run_ends_alone(store: Store, commits: Commits) -> None:
    runs = [Run(number, commits) for number in range(1, 4)]
    store.refused["resp_2"] = DeposedError()
    for run in runs:
        run.say(b"a")
    results = await asyncio.gather(*(run.writer.commit() for run in runs), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), DeposedError, type(None)]
    assert [run.feed.events for run in runs] == [[b"a"], [], [b"a"]]


async def test_nothing_is_written_behind_a_write_of_unknown_outcome(store: Store, commits: Commits) -> None:
    runs = [Run(number, commits) for number in range(1, 3)]
    store.broken = RedisConnectionError("gone")
    for run in runs:
        run.say(b"a", at_once=True)
    for run in runs:
        with pytest.raises(RedisConnectionError):
            await run.writer.watch()
    store.broken = None
    runs[0].say(b"b", at_once=True)
    with pytest.raises(RedisConnectionError):
        await runs[0].writer.commit()
    other = Run(3, commits)
    other.say(b"c")
    await other.writer.commit()
    assert [event for event in store.of(runs[0]) if event == b"b"] == []
    assert [run.feed.events for run in (*runs, other)] == [[], [], [b"c"]]


async def test_a_closed_writer_writes_no_more(store: Store, commits: Commits) -> None:
    run, other = Run(1, commits), Run(2, commits)
    run.say(b"a", at_once=True)
    run.writer.close()
    run.say(b"b", at_once=True)
    other.say(b"c")
    await other.writer.commit()
    assert store.of(run) == []


async def test_what_arrives_between_two_ticks_is_looked_at_as_the_second_begins_and_goes_with_it(
    store: Store, commits: Commits
) -> None:
    run = Run(1, commits)
    heard: list[str] = []

    def hear() -> bool:
        heard.append("something")
        asyncio.get_running_loop().call_soon(run.say, b"b")
        return True

    def hear_nothing() -> bool:
        heard.append("nothing")
        return False

    run.say(b"a")
    assert commits.pace(hear_nothing)
    assert commits.pace(hear)
    assert heard == []
    commits._tick()  # Its timer never fires here.
    assert heard == ["nothing", "something"]
    await until(partial(run.has, 2), what="what was made of it is written")
    assert store.sizes() == [1]


async def test_a_tick_without_events_delays_nobody() -> None:
    supervisor = Supervisor()
    commits = Commits(cast("EventStream", Store()), tick_seconds=0.001)
    commits.start(supervisor)
    run = Run(1, commits)
    assert not commits.pace(lambda: False), "nothing was written yet: it is time at once"
    run.say(b"a")
    await until(partial(run.has, 1), what="it is written")
    await until(lambda: not commits.pace(lambda: False), what="its tick has passed, and no other has begun")
    await supervisor.close()


async def test_the_more_runs_write_the_longer_they_are_collected(store: Store) -> None:
    supervisor = Supervisor()
    commits = Commits(cast("EventStream", store), tick_seconds=0.001)
    commits.start(supervisor)
    runs = [Run(number, commits) for number in range(3)]
    for _ in range(2):
        for run in runs:
            run.say(b"a")
        await until(lambda: all(run.is_written() for run in runs), what="they are written")
    assert commits.pause_seconds == pytest.approx(0.005), "at most five ticks of a quiet gateway"
    await supervisor.close()


async def test_nobody_need_be_told_of_a_write_that_fails_after_its_run_has_left(store: Store, commits: Commits) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    run = Run(1, commits)
    store.open.clear()
    run.say(b"a", at_once=True)
    await until(lambda: store.sizes() == [1], what="the write is under way")
    run.writer.close()
    store.broken = RedisConnectionError("gone")
    store.open.set()
    await commits.settled()
    store.broken = None
    # Nothing but this test refers to the run once the next write is over.
    other = Run(2, commits)
    other.say(b"b")
    await other.writer.commit()
    store.groups.clear()
    del run
    gc.collect()
    assert complaints == []


def test_no_tick_is_lost() -> None:
    """(uvloop's timers fire up to half a millisecond before their time.)"""

    async def stream() -> None:
        supervisor = Supervisor()
        commits = Commits(cast("EventStream", Store()), tick_seconds=0.0013)
        commits.start(supervisor)
        run = Run(1, commits)
        for number in range(100):
            run.say(b"%d" % number)
            await until(partial(run.has, number + 1), seconds=5, what="it is written")
        await supervisor.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(stream())
