"""Limits in a Redis Cluster: two slots are one decision, and what one of them refuses the other gives back."""

from collections.abc import AsyncIterator

import pytest
from cloister_common.ids import new_id
from cloister_gateway.limits.reservations import Amounts, Count, Reservations
from cloister_gateway.limits.rules import Bound
from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage.client import command_client
from cloister_gateway.storage.layout import limit_key, limit_leases_key, reservations_key
from redis.asyncio import Redis

from tests.support.redis_cluster import RedisCluster


@pytest.fixture
async def redis(cluster: RedisCluster) -> AsyncIterator[Redis]:
    client = command_client(RedisSettings.model_validate(cluster.settings))
    yield client
    await client.aclose()


async def reserve(store: Reservations, project: str, generation: str, name: str) -> bool:
    """Reserves ten tokens of thirty that the project has, and of seventy that all have."""
    counts = [
        Count(limit_key("organization", name), Bound("organization", "", "", "tokens", "month"), 70),
        Count(limit_key("organization", f"{name}-r"), Bound("organization", "", "", "running", None), 10),
        Count(limit_key(project, name), Bound("project", project, "", "tokens", "month"), 30),
    ]
    let, _ = await store.reserve(generation, store.groups(project, counts), Amounts(4, 6, 10))
    return let


async def used(redis: Redis, owner: str, name: str) -> int:
    return int(await redis.hget(limit_key(owner, name), "u") or 0)


async def test_both_slots_count_or_neither_does(redis: Redis) -> None:
    store, name = Reservations(redis), new_id("l")
    projects = [new_id("proj_") for _ in range(4)]
    let = {
        project: [await reserve(store, project, f"{project}-{number}", name) for number in range(4)]
        for project in projects
    }
    assert sum(sum(each) for each in let.values()) == 7
    assert all(sum(each) <= 3 for each in let.values())
    for project, each in let.items():
        assert await used(redis, project, name) == 10 * sum(each)
        assert await redis.hlen(reservations_key(project)) == sum(each)
        for number, one in enumerate(each):
            assert await store.renew(project, [f"{project}-{number}"]) == ({f"{project}-{number}"} if one else set())
            await store.settle(project, f"{project}-{number}", 1, 1)
    assert await used(redis, "organization", name) == 14
    assert await redis.zcard(limit_key("organization", f"{name}-r")) == 0


async def test_leases_that_are_over_are_let_go_in_all_slots(redis: Redis) -> None:
    store, name, project = Reservations(redis), new_id("l"), new_id("proj_")
    assert await reserve(store, project, "g", name)
    for owner in (project, "organization"):
        await redis.zadd(limit_leases_key(owner), {"g": 1})
    lost = await store.expire()
    assert (lost[project], lost["organization"]) == (1, 1)
    assert await redis.zcard(limit_key("organization", f"{name}-r")) == 0
