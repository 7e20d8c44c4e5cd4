"""Rows and sums in Redis: what stands there, who can read it, and what the version before wrote."""

import asyncio
import time
from typing import Any

import orjson
import pytest
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore, VaultError, encode_context, seal
from cloister_gateway.limit_settings import UsageSettings
from cloister_gateway.storage.layout import usage_key
from cloister_gateway.usage import InputSplit, Kind
from cloister_gateway.usage.queries import Query, UsageQueries
from cloister_gateway.usage.records import Row, Sum, Times, Whom
from cloister_gateway.usage.store import UsageStore
from redis.asyncio import Redis

from tests.support.gateway import secret_file

WRITTEN: tuple[Kind, ...] = ("response", "chat", "completions", "summary")
"""The kinds of calls that OpenAI tells together as completions."""

NOW = 1_790_000_000
DAY = time.strftime("%Y%m%d", time.gmtime(NOW))


@pytest.fixture
def store(redis: Redis, tmp_path: Any) -> UsageStore:
    keyring = Keyring("gateway", FileRootKey(secret_file(tmp_path, "root")), MemoryKeyStore())
    return UsageStore(redis, keyring, UsageSettings())


def row(name: str, read: int, written: int, *, user: str = "jo") -> Row:
    whom = Whom(user, "key_1", "fake")
    return Row(
        name,
        "proj_1",
        whom,
        "chat",
        None,
        NOW,
        Times(0.1, 0.5, 1.5),
        Sum(1, read, 0, written),
        exact=True,
        ending="completed",
    )


async def stored(store: UsageStore) -> Sum:
    """What the sums say: by day and by hour, of the project and of all."""
    found = await store.sums(["proj_1", "organization"], [f"days:{DAY[:6]}", f"hours:{DAY}"])
    sums = []
    for _, _, numbers in found:
        total = Sum()
        for value in numbers.values():
            total = total.plus(Sum.of(value))
        sums.append(total)
    assert sums == [sums[0]] * 4
    return sums[0]


async def test_a_row_that_comes_again_takes_the_place_of_the_one_before(store: UsageStore) -> None:
    await asyncio.gather(*(store.add(row(f"g{number % 5}", 10, 1)) for number in range(20)))
    assert await stored(store) == Sum(5, 50, 0, 5)
    await store.add(row("g0", 3, 2, user="other"))
    assert await stored(store) == Sum(5, 43, 0, 6)
    rows = await store.rows("proj_1", DAY)
    assert Sum(*map(sum, zip(*(one.used for one in rows), strict=True))) == Sum(5, 43, 0, 6)
    assert {one.whom.user for one in rows} == {"jo", "other"}


async def test_a_months_sums_of_projects_are_those_of_their_rows(store: UsageStore, redis: Redis) -> None:
    queries = UsageQueries(store)
    first = NOW // 86_400 * 86_400 - 40 * 86_400
    projects = [f"proj_{number}" for number in range(3)]
    asked = Query(WRITTEN, first, first + 31 * 86_400, "1d", 31, ("project_id", "model"))
    expected: dict[tuple[str, str, int], int] = {}
    for number in range(60):
        project, model, day = projects[number % 2], ("a", "b", "c")[number % 3], number % 31
        numbers = Sum(1, number + 1, 0, 1)
        whom = Whom(f"u{number}", "key_1", model)
        one = row(f"g{number}", 0, 0)._replace(project=project, whom=whom, used=numbers, begun=first + day * 86_400 + 9)
        await store.add(one._replace(used=Sum(1, 999_999, 7, 8)))
        await store.add(one)
        place = (project, model, first + day * 86_400)
        expected[place] = expected.get(place, 0) + number + 1
    # Nothing but the sums of months is asked.
    async for key in redis.scan_iter("usage:*:days:*"):
        await redis.delete(key)

    async def told(query: Query) -> dict[tuple[str | None, str | None, int], int]:
        buckets, _ = await queries.buckets(query, projects)
        return {(g.project_id, g.model, one.start): used[1] for one in buckets for g, used in one.sums.items()}

    assert await told(asked) == expected
    by_project = await told(asked._replace(group_by=("project_id",), models=("a", "b")))
    assert sum(by_project.values()) == sum(read for (_, model, _), read in expected.items() if model != "c")
    assert {model for _, model, _ in by_project} == {None}
    # From a day within the month on, and as it is read in a cluster.
    later = {place: read for place, read in expected.items() if place[2] >= first + 9 * 86_400}
    for store.has_totals in (True, False):
        assert await told(asked._replace(start=first + 9 * 86_400)) == later


@pytest.mark.parametrize("width", ["1d", "1h"])
@pytest.mark.parametrize("of_all", [False, True], ids=["", "all"])
async def test_what_batches_did_is_told_apart(store: UsageStore, width: Any, of_all: bool) -> None:
    queries = UsageQueries(store)
    for number in range(6):
        await store.add(row(f"g{number}", 10**number, 0)._replace(batch=number < 3))
    start = NOW // 86_400 * 86_400
    asked = Query(WRITTEN, start, start + 86_400, width, 24)

    async def told(query: Query) -> dict[bool | None, int]:
        found = await queries.totals(query) if of_all else await queries.buckets(query, ["proj_1"])
        assert found is not None
        return {g.batch: used[1] for one in found[0] for g, used in one.sums.items()}

    assert await told(asked) == {None: 111_111}
    assert await told(asked._replace(group_by=("batch",))) == {True: 111, False: 111_000}
    assert await told(asked._replace(batch=True)) == {None: 111}
    assert await told(asked._replace(batch=False, group_by=("batch", "model"))) == {False: 111_000}
    by_user = await queries.buckets(asked._replace(group_by=("user_id", "batch")), ["proj_1"])
    assert {g.batch: used[1] for one in by_user[0] for g, used in one.sums.items()} == {True: 111, False: 111_000}
    again = row("g0", 1, 0)
    await store.add(again)
    assert await told(asked._replace(group_by=("batch",))) == {True: 110, False: 111_001}


async def test_months_of_the_version_before_are_read_from_its_days(store: UsageStore, redis: Redis) -> None:
    # What it wrote: five numbers, and no sums of months.
    await store.add(row("g0", 10, 1))
    month = usage_key("proj_1", f"month:{DAY[:6]}")
    await redis.delete(month)
    await redis.hdel(usage_key("proj_1", "whom"), "since")
    for key, part in (("sums", DAY), ("days", DAY[:6]), ("hours", DAY)):
        place = usage_key("proj_1", f"{key}:{part}")
        stands: Any = await redis.hgetall(place)
        for name, numbers in stands.items():
            await redis.hset(place, name, _as_before(numbers))
    await store.add(row("g1", 5, 1))
    await store.add(row("g0", 3, 2))
    start = NOW // 86_400 * 86_400
    asked = Query(WRITTEN, start, start + 3 * 86_400, "1d", 3, ("project_id",))
    buckets, _ = await UsageQueries(store).buckets(asked, ["proj_1"])
    assert [used[1] for bucket in buckets for used in bucket.sums.values()] == [8]
    # From the second day on the months have it all.
    later = start + 2 * 86_400
    await store.add(row("g2", 7, 1)._replace(begun=later))
    await redis.delete(usage_key("proj_1", f"days:{time.strftime('%Y%m', time.gmtime(later))}"))
    buckets, _ = await UsageQueries(store).buckets(asked._replace(start=later), ["proj_1"])
    assert [used[1] for bucket in buckets for used in bucket.sums.values()] == [7]


def _as_before(stands: bytes) -> bytes:
    numbers, *places = stands.split(b"|")
    return b"|".join([b",".join(numbers.split(b",")[:5]), *places[: len(places) - 1]])


async def test_a_row_tells_times_parts_and_adapter_and_one_of_the_version_before_opens(
    store: UsageStore, redis: Redis
) -> None:
    split = InputSplit(system=1, history=2, retrieved=3, tools=4, new=5)
    written = row("g", 15, 2)._replace(adapter="tone@sha256:0", used=Sum.of_one(15, 4, 2, 1, split))
    await store.add(written)
    assert await store.rows("proj_1", DAY) == [written]
    assert written.used.split == split
    assert (await stored(store)).split == split
    key = await store._keyring.obtain("proj_1", "usage", "proj_1")
    before: dict[str, Any] = {
        "kind": "chat",
        "adapter": None,
        "begun": NOW,
        "seconds": 1.5,
        "used": [1, 10, 0, 1, 0],
        "exact": True,
    }
    before |= {"ending": "completed", "whom": ["jo", "key_1", "fake"]}
    context = encode_context("usage-row", "proj_1", "old")
    await redis.hset(usage_key("proj_1", f"rows:{DAY}"), "old", seal(key.subkey("rows"), orjson.dumps(before), context))
    (old,) = [one for one in await store.rows("proj_1", DAY) if one.id == "old"]
    assert (old.times, old.used, old.used.split) == (Times(whole=1.5), Sum(1, 10, 0, 1), None)


async def test_rows_and_whom_they_are_about_are_sealed_where_they_lie(store: UsageStore, redis: Redis) -> None:
    await store.add(row("g", 10, 1, user="somebody@example.org"))
    async for key in redis.scan_iter("usage:*"):
        stands: Any = await redis.hgetall(key)
        seen = b"".join([key, *stands, *stands.values()])
        assert b"somebody" not in seen
        assert b"fake" not in seen
    place = usage_key("proj_1", f"rows:{DAY}")
    await redis.hset(place, "h", await redis.hget(place, "g"))
    with pytest.raises(VaultError):
        await store.rows("proj_1", DAY)
