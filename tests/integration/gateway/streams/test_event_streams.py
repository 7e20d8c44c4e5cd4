"""Event streams and feeds below HTTP: fenced, sealed, gapless, and never silent when something is wrong."""

import asyncio
import base64
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import orjson
import pytest
from cloister_common.ids import new_id
from cloister_common.supervisor import Supervisor
from cloister_common.vault import Keyring, VaultError
from cloister_gateway.bus.connection import Bus
from cloister_gateway.runs.records import OUTCOME, Outcome, TurnRequest
from cloister_gateway.runs.store import Header, ResponseStore
from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage import KeyedObject, RecordGoneError, record_key
from cloister_gateway.storage.client import bus_connection
from cloister_gateway.storage.layout import events_key
from cloister_gateway.streams import events as streams_events
from cloister_gateway.streams.events import Append, DeposedError, EventStream
from cloister_gateway.streams.feeds import Hub
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.support.waiting import until

SECONDS = 15.0
CANARY = "CANARY-93b1"


@pytest.fixture
def stream(redis: Redis) -> EventStream:
    return EventStream(redis)


@pytest.fixture
def store(redis: Redis, keyring: Keyring) -> ResponseStore:
    return ResponseStore(redis, keyring)


@pytest.fixture
async def keyed(store: ResponseStore) -> KeyedObject:
    """A response with a record and no events."""
    header = Header(new_id("resp_"), "proj_a", "", True, False, False)
    return await store.create(header, body={"status": "in_progress"}, request=TurnRequest(model="fake", input=[]))


class Gateway:
    """As much of a gateway as watches streams."""

    def __init__(self, redis: Redis, settings: RedisSettings) -> None:
        self.supervisor = Supervisor()
        self.bus = Bus(lambda: bus_connection(settings), redis, self.supervisor)
        self.bus.start()
        self.hub = Hub(EventStream(redis), self.bus, self.supervisor)
        self.hub.start()


@pytest.fixture
async def watcher(redis: Redis, redis_settings: RedisSettings) -> AsyncIterator[Gateway]:
    gateway = Gateway(redis, redis_settings)
    yield gateway
    await gateway.supervisor.close()


def events(first: int, count: int) -> list[bytes]:
    return [orjson.dumps({"type": "t", "sequence_number": first + n, "text": CANARY}) for n in range(count)]


async def collect(gateway: Gateway, keyed: KeyedObject, after: int = -1) -> list[bytes]:
    async with asyncio.timeout(SECONDS), gateway.hub.watch(keyed) as feed:
        return [event async for batch in feed.follow(after) for event in batch]


async def test_a_deposed_owner_is_refused_from_the_first_place_that_is_taken(
    stream: EventStream, keyed: KeyedObject
) -> None:
    await stream.append(keyed, 0, events(0, 3), final=False)
    await stream.append(keyed, 3, events(3, 2), final=False)
    for first, count in ((0, 1), (3, 1), (3, 5), (2, 4)):
        with pytest.raises(DeposedError):
            await stream.append(keyed, first, events(first, count), final=True, fields={"done": b"1"})
    groups = await stream.read(keyed)
    assert [event for group in groups for event in group.events] == events(0, 5)
    assert not groups[-1].final


async def test_of_two_owners_who_go_on_from_one_place_only_one_is_heard(
    stream: EventStream, keyed: KeyedObject
) -> None:
    await stream.append(keyed, 0, events(0, 2), final=False)

    async def write(marker: int) -> int:
        number = 2
        try:
            for _ in range(20):
                await stream.append(keyed, number, [orjson.dumps([marker, number])], final=False)
                number += 1
        except DeposedError:
            pass
        return number

    reached = await asyncio.gather(*(write(marker) for marker in range(4)))
    written = [orjson.loads(event) for group in (await stream.read(keyed))[1:] for event in group.events]
    assert sorted(reached)[:3] == [2, 2, 2]
    assert written == [[written[0][0], number] for number in range(2, 22)]


async def test_a_refused_group_changes_no_field_of_the_record(
    stream: EventStream, keyed: KeyedObject, redis: Redis
) -> None:
    await stream.append(keyed, 0, events(0, 1), final=False)
    with pytest.raises(DeposedError):
        await stream.append(keyed, 0, events(0, 1), final=True, fields={"done": b"1"})
    assert await redis.hget(record_key("resp", keyed.id), "done") is None
    await stream.append(keyed, 1, events(1, 1), final=True, fields={"done": b"1"})
    done: Any = await redis.hget(record_key("resp", keyed.id), "done")
    assert done == b"1"


async def test_a_destroyed_response_takes_no_events_and_leaves_none(
    stream: EventStream, store: ResponseStore, keyed: KeyedObject, redis: Redis
) -> None:
    await stream.append(keyed, 0, events(0, 1), final=False)
    header = await store.header(keyed.id)
    assert header is not None
    await store.destroy(header)
    for refused in (
        stream.append(keyed, 1, events(1, 1), final=True, fields={"done": b"1"}),
        stream.read(keyed),
        store.write_once(keyed, OUTCOME, Outcome(status="completed")),
        store.cancel_requested(keyed.id),
    ):
        with pytest.raises(RecordGoneError):
            await refused
    await store.request_cancel(keyed.id)
    await store.hide(keyed.id)
    await store.give_up(keyed.id)
    assert await store.count_takeover(keyed.id) == 0
    assert await redis.keys(f"*{keyed.id}*") == []


async def test_in_one_write_of_many_runs_each_fails_alone(
    stream: EventStream, store: ResponseStore, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than go into one script.
    monkeypatch.setattr(streams_events, "_MOST_TOGETHER", 4)
    runs = []
    for _ in range(6):
        header = Header(new_id("resp_"), "proj_a", "", True, False, False)
        runs.append(await store.create(header, body={}, request=TurnRequest(model="fake", input=[])))
    deposed, gone, broken, *fine, ending = runs
    await stream.append(deposed, 0, events(0, 2), final=False)
    await store.destroy(Header(gone.id, "proj_a", "", True, False, False))
    await redis.set(events_key(broken.id), "no stream")
    appends = [Append(keyed, 0, events(0, 2)) for keyed in runs[:-1]]
    found = await stream.append_all([*appends, Append(ending, 0, events(0, 1), {"done": b"1", "body": b"x"})])
    assert [type(error) for error in found] == [DeposedError, RecordGoneError, ResponseError, *[type(None)] * 3]
    for keyed in fine:
        assert [group.events for group in await stream.read(keyed)] == [events(0, 2)]
    assert [group.final for group in await stream.read(ending)] == [True]
    assert await redis.hmget(record_key("resp", ending.id), "done", "body") == [b"1", b"x"]
    assert not await redis.exists(events_key(gone.id))


async def test_a_redis_that_forgot_the_script_is_told_it_again(
    stream: EventStream, keyed: KeyedObject, redis: Redis
) -> None:
    await stream.append(keyed, 0, events(0, 1), final=False)
    await redis.script_flush()
    await stream.append(keyed, 1, events(1, 1), final=False)
    assert [group.events for group in await stream.read(keyed)] == [events(0, 1), events(1, 1)]


async def test_a_write_that_redis_does_not_answer_is_of_unknown_outcome_for_all(
    stream: EventStream, keyed: KeyedObject, store: ResponseStore, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = Header(new_id("resp_"), "proj_a", "", True, False, False)
    other = await store.create(header, body={}, request=TurnRequest(model="fake", input=[]))
    await stream.append(keyed, 0, events(0, 1), final=False)
    execute = redis.execute_command

    async def cut(*args: Any, **options: Any) -> Any:
        await execute(*args, **options)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        raise RedisConnectionError("the answer was lost")

    with monkeypatch.context() as patched:
        patched.setattr(redis, "execute_command", cut)
        found = await stream.append_all([Append(keyed, 1, events(1, 1)), Append(other, 0, events(0, 1))])
    assert [type(error) for error in found] == [RedisConnectionError] * 2
    assert [group.events for group in await stream.read(keyed)] == [events(0, 1), events(1, 1)]


async def test_events_are_sealed_in_every_encoding(stream: EventStream, keyed: KeyedObject, redis: Redis) -> None:
    await stream.append(keyed, 0, events(0, 50), final=True)
    entries: Any = await redis.xrange(f"{record_key('resp', keyed.id)}:events")
    raw = repr(entries).encode() + b"".join(entries[0][1].values())
    secret = CANARY.encode()
    shapes = [secret, secret.hex().encode(), *(base64.b64encode(b"x" * n + secret)[4:-4] for n in range(3))]
    assert not [shape for shape in shapes if shape in raw]


@pytest.mark.parametrize("field", [b"n", b"d", b"f"])
async def test_an_altered_group_is_never_served(
    field: bytes, stream: EventStream, keyed: KeyedObject, redis: Redis, watcher: Gateway
) -> None:
    await stream.append(keyed, 0, events(0, 2), final=False)
    key = f"{record_key('resp', keyed.id)}:events"
    entries: Any = await redis.xrange(key)
    fields = dict(entries[0][1])
    fields[field] = {b"n": b"1", b"d": fields[b"d"][:-1] + b"x", b"f": b"1"}[field]
    await redis.delete(key)
    await redis.xadd(key, fields, id="1-0")
    with pytest.raises(VaultError):
        await stream.read(keyed)
    with pytest.raises(VaultError):
        await collect(watcher, keyed)


async def test_a_follower_is_told_that_a_run_was_given_up(
    stream: EventStream, store: ResponseStore, keyed: KeyedObject, watcher: Gateway
) -> None:
    await stream.append(keyed, 0, events(0, 2), final=False)
    async with asyncio.timeout(SECONDS), watcher.hub.watch(keyed) as feed:
        batches = feed.follow()
        assert await anext(batches) == events(0, 2)
        await store.give_up(keyed.id)
        with pytest.raises(VaultError):
            await anext(batches)


async def test_a_group_at_another_place_or_of_another_response_is_never_served(
    stream: EventStream, store: ResponseStore, keyed: KeyedObject, redis: Redis
) -> None:
    await stream.append(keyed, 0, events(0, 1), final=False)
    entries: Any = await redis.xrange(f"{record_key('resp', keyed.id)}:events")
    await redis.xadd(f"{record_key('resp', keyed.id)}:events", entries[0][1], id="2-0")
    with pytest.raises(VaultError):
        await stream.read(keyed)
    header = Header(new_id("resp_"), "proj_a", "", True, False, False)
    other = await store.create(header, body={}, request=TurnRequest(model="fake", input=[]))
    await redis.xadd(f"{record_key('resp', other.id)}:events", entries[0][1], id="1-0")
    with pytest.raises(VaultError):
        await stream.read(other)


async def test_every_reader_gets_everything_from_its_own_place(
    stream: EventStream, keyed: KeyedObject, watcher: Gateway
) -> None:
    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(collect(watcher, keyed, after)) for after in range(-1, 13)]
        number = 0
        for count in (1, 1, 4, 2, 5):
            await stream.append(keyed, number, events(number, count), final=number + count == 13)
            number += count
            await asyncio.sleep(0)
    for after, reader in zip(range(-1, 13), readers, strict=True):
        assert reader.result() == events(0, 13)[after + 1 :]
    assert await collect(watcher, keyed) == events(0, 13)


async def test_watchers_that_come_at_once_share_one_subscription_and_leave_none(
    stream: EventStream, keyed: KeyedObject, watcher: Gateway
) -> None:
    readers = [asyncio.create_task(collect(watcher, keyed)) for _ in range(20)]
    await until(partial(stream.is_watched, keyed.id), what="the reader watches")
    assert list(watcher.bus.subscribed.values()) == [1]
    for reader in readers[:10]:
        reader.cancel()
    await stream.append(keyed, 0, events(0, 3), final=True)
    finished = await asyncio.gather(*readers, return_exceptions=True)
    assert finished[10:] == [events(0, 3)] * 10
    assert watcher.bus.subscribed == {}
    assert watcher.hub.held == {}
    async with asyncio.timeout(SECONDS):
        while await stream.is_watched(keyed.id):
            await asyncio.sleep(0.01)


async def test_watchers_of_a_destroyed_response_are_told(
    stream: EventStream, store: ResponseStore, keyed: KeyedObject, watcher: Gateway
) -> None:
    await stream.append(keyed, 0, events(0, 1), final=False)
    reader = asyncio.create_task(collect(watcher, keyed))
    await until(partial(stream.is_watched, keyed.id), what="the reader watches")
    header = await store.header(keyed.id)
    assert header is not None
    await store.destroy(header)
    with pytest.raises(RecordGoneError):
        await reader


async def test_one_broken_stream_fails_its_own_watchers_only(
    stream: EventStream, store: ResponseStore, keyed: KeyedObject, redis: Redis, watcher: Gateway
) -> None:
    header = Header(new_id("resp_"), "proj_a", "", True, False, False)
    broken = await store.create(header, body={}, request=TurnRequest(model="fake", input=[]))
    good, bad = (asyncio.create_task(collect(watcher, one)) for one in (keyed, broken))
    while not (await stream.is_watched(keyed.id) and await stream.is_watched(broken.id)):
        await asyncio.sleep(0.01)
    await redis.xadd(f"{record_key('resp', broken.id)}:events", {"n": 1, "d": b"garbage", "f": 0}, id="1-0")
    await redis.publish(f"run:{broken.id}", b"")
    with pytest.raises(VaultError):
        await bad
    await stream.append(keyed, 0, events(0, 2), final=True)
    assert await good == events(0, 2)


async def test_a_lost_wake_up_is_made_good_by_the_next_look(
    stream: EventStream, keyed: KeyedObject, redis: Redis, watcher: Gateway
) -> None:
    reader = asyncio.create_task(collect(watcher, keyed))
    await until(partial(stream.is_watched, keyed.id), what="the reader watches")
    subscription = await until(lambda: watcher.hub.held[keyed.id].subscription, what="it is subscribed")
    await watcher.bus.unsubscribe(subscription)
    await stream.append(keyed, 0, events(0, 2), final=True)
    assert await reader == events(0, 2)


async def test_a_lost_bus_connection_loses_no_event(
    stream: EventStream, keyed: KeyedObject, redis: Redis, watcher: Gateway
) -> None:
    reader = asyncio.create_task(collect(watcher, keyed))
    await until(partial(stream.is_watched, keyed.id), what="the reader watches")
    for number in range(8):
        await redis.client_kill_filter(_type="pubsub")
        await stream.append(keyed, number, events(number, 1), final=number == 7)
        await asyncio.sleep(0.05)
    assert await reader == events(0, 8)


async def test_watchers_of_a_run_here_go_on_with_its_next_owner_elsewhere(
    stream: EventStream, keyed: KeyedObject, watcher: Gateway
) -> None:
    async with watcher.hub.own(keyed) as feed:
        reader = asyncio.create_task(collect(watcher, keyed))
        await stream.append(keyed, 0, events(0, 1), final=False)
        feed.extend(0, events(0, 1), final=False)
        while feed.watchers == 0:
            await asyncio.sleep(0)
        assert watcher.bus.subscribed == {}
    await stream.append(keyed, 1, events(1, 2), final=True)
    assert await reader == events(0, 3)
