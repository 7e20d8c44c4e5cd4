"""Whatever happens in whatever order, no limit is overrun, and nothing stays reserved behind its lease."""

import asyncio
import calendar
import datetime
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cloister_gateway.limits import reservations as module
from cloister_gateway.limits.reservations import Amounts, Count, Group, Reservations
from cloister_gateway.limits.rules import Bound, Period, Unit
from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage.client import command_client
from cloister_gateway.storage.layout import limit_key, limit_leases_key, reservations_key
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from tests.support.redis_server import RedisServer

MOST: dict[Unit, int] = {"requests": 6, "tokens": 100, "output_tokens": 60, "running": 3}


def counts(project: str) -> list[Count]:
    found = [
        Count(
            limit_key(project, f"p-{unit}"),
            Bound("project", project, "", unit, None if unit == "running" else "month"),
            most,
        )
        for unit, most in MOST.items()
    ]
    everybody = Bound("organization", "", "", "tokens", "month")
    return [*found, Count(limit_key("organization", "o-tokens"), everybody, 150)]


async def reserve(store: Reservations, project: str, name: str, read: int, written: int) -> bool:
    let, _ = await store.reserve(name, store.groups(project, counts(project)), Amounts(read, written, read + written))
    return let


Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "reserve", "settle", "renew", "expire"]),
        st.integers(0, 7),
        st.integers(0, 40),
        st.integers(0, 30),
    ),
    max_size=40,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    server = RedisServer(tmp_path_factory.mktemp("reservations"))
    server.start()
    yield server
    server.stop()


async def state(redis: Redis, project: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for count in counts(project):
        if count.bound.unit == "running":
            found[count.key] = int(await redis.zcard(count.key))
        else:
            found[count.key] = int(await redis.hget(count.key, "u") or 0)
    return found


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_settled_never_exceeds_a_limit_in_any_order_of_steps(server: RedisServer, steps: list[Step]) -> None:
    async def check() -> None:
        redis = command_client(RedisSettings.model_validate(server.settings))
        await redis.flushall()
        try:
            await _walk(redis, steps)
        finally:
            await redis.aclose()

    asyncio.run(check())


async def _walk(redis: Redis, steps: list[Step]) -> None:
    """Two projects, generations that reserve, settle with no more than that, are renewed, and are lost."""
    store = Reservations(redis)
    held: dict[str, tuple[str, int, int]] = {}
    late: dict[str, tuple[str, int, int]] = {}
    settled = {"a": 0, "b": 0}
    for step, number, read, written in steps:
        project, name = "ab"[number % 2], f"g{number}"
        if step == "reserve" and name not in held and name not in late:
            if await reserve(store, project, name, read, written):
                held[name] = (project, read, written)
        elif step == "settle" and (name in held or name in late):
            project, most_read, most_written = held.pop(name) if name in held else late.pop(name)
            used = (min(read, most_read), min(written, most_written))
            assert await store.settle(project, name, *used)
            settled[project] += sum(used)
        elif step == "renew":
            assert await store.renew(project, [name]) == ({name} & {*held, *late})
            if name in late:
                held[name] = late.pop(name)
        elif step == "expire":
            # As if the lease of all had run out.
            for owner in "ab":
                for lost in [one for one, (whose, *_) in held.items() if whose == owner]:
                    await redis.zadd(limit_leases_key(owner), {lost: 1})
                    late[lost] = held.pop(lost)
            await store.expire()
        for owner in "ab":
            stands = await state(redis, owner)
            reserved = sum(r + w for whose, r, w in [*held.values(), *late.values()] if whose == owner)
            for count in counts(owner):
                assert 0 <= stands[count.key] <= count.most or count.bound.unit == "running"
            assert stands[limit_key(owner, "p-tokens")] == settled[owner] + reserved
            assert stands[limit_key(owner, "p-running")] == len([1 for whose, *_ in held.values() if whose == owner])
        total = (await state(redis, "a"))[limit_key("organization", "o-tokens")]
        assert total == sum(settled.values()) + sum(r + w for _, r, w in [*held.values(), *late.values()])


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    redis = command_client(RedisSettings.model_validate(server.settings))
    await redis.flushall()
    yield redis
    await redis.aclose()


MONTH = Bound("project", "p", "", "tokens", "month")
THIRTY = Amounts(10, 20, 30)


def month(store: Reservations, *others: Count, most: int = 100) -> tuple[Group, ...]:
    return store.groups("p", [Count(limit_key("p", "n"), MONTH, most), *others])


async def test_what_nobody_renews_counts_as_used_and_is_reserved_no_longer(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_SECONDS", 1000)
    store = Reservations(redis)
    running = Count(limit_key("p", "r"), Bound("project", "p", "", "running", None), 1)
    assert (await store.reserve("g1", month(store, running), THIRTY))[0]
    assert not (await store.reserve("g2", month(store, running), THIRTY))[0]
    await redis.zadd(limit_leases_key("p"), {"g1": 1})
    assert await store.expire() == {"p": 1}
    assert await store.expire() == {}
    assert (await store.reserve("g2", month(store, running), THIRTY))[0]
    assert await redis.hget(limit_key("p", "n"), "u") == b"60"
    # Its run goes on after all, and says what it really used.
    assert await store.settle("p", "g1", 1, 1)
    assert await redis.hget(limit_key("p", "n"), "u") == b"32"


async def test_reserving_again_takes_the_place_of_what_was_reserved(redis: Redis) -> None:
    store = Reservations(redis)
    for _ in range(5):
        let, (stand,) = await store.reserve("g", month(store), THIRTY)
        assert (let, stand.used) == (True, 30)
    assert not (await store.reserve("g", month(store, most=20), THIRTY))[0]
    assert await redis.hget(limit_key("p", "n"), "u") == b"0"
    assert not await redis.hexists(reservations_key("p"), "g")


async def test_settling_twice_changes_nothing(redis: Redis) -> None:
    store = Reservations(redis)
    await store.reserve("g", month(store), THIRTY)
    for _ in range(3):
        assert await store.settle("p", "g", 3, 4)
    assert await redis.hget(limit_key("p", "n"), "u") == b"7"


@pytest.mark.parametrize("per", ["minute", "day", "month"])
async def test_a_count_ends_with_its_minute_day_or_month(redis: Redis, per: Period) -> None:
    store = Reservations(redis)
    count = Count(limit_key("p", per), Bound("project", "p", "", "requests", per), 2)
    seconds = int((await redis.time())[0])
    _, (stand,) = await store.reserve("g", store.groups("p", [count]), THIRTY)
    later = int((await redis.time())[0])
    now = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    days = calendar.monthrange(now.year, now.month)[1] if per == "month" else now.day
    ends = {
        "minute": seconds // 60 * 60 + 60,
        "day": seconds // 86_400 * 86_400 + 86_400,
        "month": (seconds // 86_400 + days - now.day + 1) * 86_400,
    }[per]
    assert seconds - 1 <= ends - stand.seconds <= later + 1 or stand.seconds <= 60
    # What was used in the one before does not count in this, and what is settled late changes nothing in the next.
    await redis.hset(count.key, mapping={"e": seconds - 1, "u": 2})
    let, (stand,) = await store.reserve("h", store.groups("p", [count]), THIRTY)
    assert (let, stand.used) == (True, 1)
    await redis.hset(count.key, mapping={"e": ends + 86_400, "u": 1})
    await store.settle("p", "g", 0, 0, requests=0)
    assert await redis.hget(count.key, "u") == b"1"
