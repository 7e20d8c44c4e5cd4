"""The pub/sub connection: dynamic channels, and honesty about what a reconnect may have lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cloister_common.errors import Unavailable
from cloister_common.supervisor import Supervisor
from cloister_gateway.bus.announcements import Announcements
from cloister_gateway.bus.connection import Bus
from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage.client import bus_connection, command_client

from tests.support.redis_server import RedisServer
from tests.support.waiting import until


@pytest.fixture
async def bus(redis_server: RedisServer) -> AsyncIterator[Bus]:
    settings = RedisSettings.model_validate(redis_server.settings)
    redis = command_client(settings)
    supervisor = Supervisor()
    made = Bus(lambda: bus_connection(settings), redis, supervisor)
    made.start()
    try:
        yield made
    finally:
        await supervisor.close()
        await redis.aclose()


async def test_messages_published_after_subscribe_returned_arrive_in_order(bus: Bus) -> None:
    received: list[bytes] = []
    await bus.subscribe("a", received.append)
    for number in range(100):
        await bus.publish("a", b"%d" % number)
    await until(lambda: len(received) == 100)
    assert received == [b"%d" % number for number in range(100)]


async def test_subscribers_of_one_channel_are_independent(bus: Bus) -> None:
    first: list[bytes] = []
    second: list[bytes] = []

    def fails(_: bytes) -> None:
        raise RuntimeError("a faulty subscriber")

    await bus.subscribe("a", fails)
    one = await bus.subscribe("a", first.append)
    await bus.subscribe("a", second.append)
    await bus.publish("a", b"1")
    await until(lambda: bool(second))
    await bus.unsubscribe(one)
    await bus.unsubscribe(one)
    await bus.publish("a", b"2")
    await until(lambda: len(second) == 2)
    assert (first, second) == ([b"1"], [b"1", b"2"])


async def test_channel_can_be_left_and_joined_again_at_once(bus: Bus) -> None:
    for round_number in range(50):
        received: list[bytes] = []
        subscription = await bus.subscribe("a", received.append)
        await bus.publish("a", b"%d" % round_number)
        await until(lambda got=received: bool(got))  # type: ignore[misc]  # mypy cannot infer the default's type
        assert received == [b"%d" % round_number]
        await bus.unsubscribe(subscription)


async def test_reconnect_is_told_to_subscribers_and_messages_flow_again(bus: Bus, redis_server: RedisServer) -> None:
    received: list[bytes] = []
    resyncs: list[bool] = []
    await bus.subscribe("a", received.append, lambda: resyncs.append(True))
    redis_server.kill()
    await until(lambda: not bus.connected)
    await asyncio.to_thread(redis_server.start)
    # A resync means that nothing published from now on is lost, unless there is another: a loaded machine may make one.
    published = 0
    async with asyncio.timeout(20):
        while not received:
            if len(resyncs) > published:
                published = len(resyncs)
                await bus.publish("a", b"after")
            await asyncio.sleep(0.01)
    assert set(received) == {b"after"}


async def test_subscribing_while_redis_is_down_is_unavailable(bus: Bus, redis_server: RedisServer) -> None:
    await bus.subscribe("a", lambda _: None)
    redis_server.kill()
    await until(lambda: not bus.connected)
    with pytest.raises(Unavailable):
        await bus.subscribe("b", lambda _: None)


async def test_control_messages_reach_only_their_kind(bus: Bus) -> None:
    announcements = Announcements(bus)
    await announcements.start()
    received: list[dict[str, object]] = []
    announcements.subscribe("x", received.append)
    await announcements.publish("y", {"id": 1})
    await announcements.publish("x", {"id": 2})
    await until(lambda: bool(received))
    assert received == [{"id": 2}]


async def test_many_channels_share_one_connection(bus: Bus, redis_server: RedisServer, tmp_path: Path) -> None:
    for number in range(200):
        await bus.subscribe(f"run:{number}", lambda _: None)
    with redis_server.client() as redis:
        subscribed = [client for client in redis.client_list() if int(client["sub"]) > 0]
    assert [int(client["sub"]) for client in subscribed] == [200]
