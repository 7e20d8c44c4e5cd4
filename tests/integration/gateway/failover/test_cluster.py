"""A Redis Cluster: commands, transactions and channels work there as on one Redis, while masters die and slots move."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cloister_common.settings import SettingsError
from cloister_common.supervisor import Supervisor
from cloister_gateway.bus.connection import Bus
from cloister_gateway.bus.sharded import make_bus
from cloister_gateway.runs.lease import Leases, Standing
from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage import layout
from cloister_gateway.storage.client import REDIS_AWAY, command_client
from cloister_gateway.storage.durability import check_durability, wait_for_redis
from redis.asyncio import Redis
from redis.exceptions import ResponseError, WatchError

from tests.integration.gateway.failover.conftest import CONFIRMED
from tests.support.redis_cluster import RedisCluster
from tests.support.waiting import until


def settings(cluster: RedisCluster, **changed: Any) -> RedisSettings:
    return RedisSettings.model_validate({**cluster.settings, **changed})


@pytest.fixture
async def redis(cluster: RedisCluster) -> AsyncIterator[Redis]:
    client = command_client(settings(cluster, **CONFIRMED))
    yield client
    await client.aclose()


@pytest.fixture
async def bus(cluster: RedisCluster, redis: Redis) -> AsyncIterator[Bus]:
    supervisor = Supervisor()
    made = make_bus(settings(cluster), redis, supervisor)
    made.start()
    yield made
    await supervisor.close()


async def test_commands_scripts_and_pipelines_go_where_their_keys_lie(redis: Redis) -> None:
    script = redis.register_script("return redis.call('INCR', KEYS[1])")
    assert [await script(keys=[f"counted {number}"]) for number in range(20)] == [1] * 20
    async with redis.pipeline(transaction=False) as pipeline:
        for number in range(20):
            pipeline.set(f"set {number}", number)
            pipeline.get(f"set {number}")
        assert [reply for reply in await pipeline.execute() if reply is not True] == [b"%d" % n for n in range(20)]
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.set("{one}a", 1)
        pipeline.get("{one}a")
        assert await pipeline.execute() == [True, b"1"]
    assert {key async for key in redis.scan_iter(match="set *")} == {b"set %d" % number for number in range(20)}


async def test_a_write_is_not_done_at_one_node_where_one_before_it_was_refused_at_another(
    cluster: RedisCluster, redis: Redis
) -> None:
    first = "first"
    later = next(f"later {n}" for n in range(100) if cluster.master_of(f"later {n}") is not cluster.master_of(first))
    await redis.set(first, "no list")
    for raising in (True, False):
        async with redis.pipeline(transaction=False) as pipeline:
            pipeline.zadd(first, {"x": 1})
            pipeline.set(later, "x")
            with pytest.raises(ResponseError, match="WRONGTYPE"):
                await pipeline.execute(raise_on_error=raising)
        assert not await redis.exists(later)


async def test_a_transaction_that_watches_is_refused_when_what_it_watches_changes(redis: Redis) -> None:
    for changes in (False, True):
        async with redis.pipeline(transaction=True) as pipeline:
            await pipeline.watch("watched")
            seen: Any = await pipeline.get("watched")
            if changes:
                await redis.set("watched", "by another")
            pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            pipeline.set("watched", "by us")
            if changes:
                with pytest.raises(WatchError):
                    await pipeline.execute()
            else:
                assert (seen, await pipeline.execute()) == (None, [True])
    assert await redis.get("watched") == b"by another"


async def test_a_slot_that_moves_under_load_loses_and_repeats_nothing(cluster: RedisCluster, redis: Redis) -> None:
    script = redis.register_script("redis.call('INCR', KEYS[1]) return redis.call('INCR', KEYS[2])")
    stopping = asyncio.Event()

    async def work(number: int) -> int:
        one, other = f"{{moving}}one {number}", f"{{moving}}other {number}"
        rounds = 0
        while not stopping.is_set():
            rounds += 1
            assert await script(keys=[one, other]) == 3 * rounds - 2
            for transaction in (True, False):
                async with redis.pipeline(transaction=transaction) as pipeline:
                    pipeline.incr(one)
                    pipeline.incr(other)
                    last = 3 * rounds - transaction
                    assert await pipeline.execute() == [last, last]
        return rounds

    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(work(number)) for number in range(8)]
        with cluster.steady():
            for _ in range(4):
                await asyncio.to_thread(cluster.move, "{moving}")
        stopping.set()
    assert all(task.result() > 0 for task in working)


async def test_a_master_that_does_not_answer_holds_up_no_lease_at_another(cluster: RedisCluster) -> None:
    client = command_client(settings(cluster, timeout_seconds=2))
    leases = Leases(client)
    silent = next(master for master in cluster.masters if master is not cluster.master_of("runs:active"))
    runs = [layout.new_response_id() for _ in range(40)]
    there = {run for run in runs if cluster.master_of(layout.lease_key(run)) is silent}
    assert 0 < len(there) < len(runs)
    for run in runs:
        await client.hset(layout.record_key("resp", run), "tenant", "proj_a")
        assert await leases.take(run)
    before: Any = await client.zmscore("runs:active", runs)
    with cluster.steady():
        os.kill(silent.pid, signal.SIGSTOP)
        try:
            standing = await leases.renew_all(dict.fromkeys(runs, False))
        finally:
            os.kill(silent.pid, signal.SIGCONT)
    assert standing == {run: Standing(True, False, False) for run in runs if run not in there}
    after: Any = await client.zmscore("runs:active", runs)
    assert {run for run, old, new in zip(runs, before, after, strict=True) if new > old} == standing.keys()
    await until(lambda: _all_renewed(leases, runs), what="the master answers again")
    await client.aclose()


async def _all_renewed(leases: Leases, runs: list[str]) -> bool:
    with contextlib.suppress(*REDIS_AWAY):
        return len(await leases.renew_all(dict.fromkeys(runs, True))) == len(runs)
    return False


async def test_channels_follow_their_slots(cluster: RedisCluster, redis: Redis, bus: Bus) -> None:
    heard: list[bytes] = []
    resynced: list[str] = []
    channels = [f"{{moving}}{number}" for number in range(3)] + ["another"]
    subscriptions = [
        await bus.subscribe(channel, heard.append, lambda channel=channel: resynced.append(channel))  # type: ignore[misc]
        for channel in channels
    ]
    with cluster.steady():
        for _ in range(3):
            await asyncio.to_thread(cluster.move, "{moving}")
            for channel in channels:
                # Until the channel is back, messages may be lost: then its subscriber is told to look.
                await until(lambda: _published(bus, channel, heard), what="a message")  # noqa: B023
    assert set(resynced) == set(channels[:3])
    for subscription in subscriptions:
        await bus.unsubscribe(subscription)
    assert bus.subscribed == {}
    assert await redis.pubsub_numsub(channels[0]) == [(channels[0].encode(), 0)]


async def _published(bus: Bus, channel: str, heard: list[bytes]) -> bool:
    before = len(heard)
    await bus.publish(channel, channel.encode())
    await asyncio.sleep(0.02)
    return channel.encode() in heard[before:]


async def test_channels_of_a_master_that_dies_are_heard_at_the_next_one(
    cluster: RedisCluster, redis: Redis, bus: Bus
) -> None:
    heard: list[bytes] = []
    resynced = asyncio.Event()
    await bus.subscribe("announced", heard.append, resynced.set)
    await bus.subscribe("elsewhere", heard.append)
    master = cluster.master_of("announced")
    master.kill()
    try:
        await until(lambda: not bus.connected, what="the loss is seen")
        await until(resynced.is_set, what="the subscriber is told to look")
        await until(lambda: _published(bus, "announced", heard), what="a message")
        await until(lambda: bus.connected)
        # The client has found its new master too.
        await until(lambda: _written(redis), what="a write")
    finally:
        await asyncio.to_thread(cluster.revive, master)


async def _written(redis: Redis) -> bool:
    try:
        return bool(await redis.set("announced", "1"))
    except REDIS_AWAY:
        return False


async def test_nodes_that_are_no_cluster_and_a_cluster_given_as_one_redis_are_told_apart(
    cluster: RedisCluster, redis_server: Any
) -> None:
    node = RedisSettings.model_validate(
        {"url": cluster.servers[0].url, "password_file": cluster.settings["password_file"]}
    )
    client = command_client(node)
    with pytest.raises(SettingsError, match=r"is a node of a Redis Cluster. Give its nodes in redis.cluster.urls"):
        await check_durability(client, node)
    await client.aclose()
    alone = RedisSettings.model_validate(
        {"cluster": {"urls": [redis_server.url]}, "password_file": str(redis_server.password_file), "start_seconds": 0}
    )
    client = command_client(alone)
    with pytest.raises(SettingsError, match=r"is no Redis Cluster. Give it in redis.url"):
        await wait_for_redis(client, alone)
    await client.aclose()


async def test_every_master_is_checked_for_durability(cluster: RedisCluster, redis: Redis) -> None:
    await wait_for_redis(redis, settings(cluster))
    await check_durability(redis, settings(cluster))
    with cluster.masters[2].client() as client:
        client.config_set("appendfsync", "no")
        try:
            with pytest.raises(SettingsError, match="appendfsync is no"):
                await check_durability(redis, settings(cluster))
        finally:
            client.config_set("appendfsync", "always")
