"""A log that is kept opened: right data or none, whoever wrote meanwhile, and no longer than its key."""

from typing import Any

import pytest
from cloister_common.vault import Keyring
from cloister_gateway.storage import ItemLog, KeyedObject, LogDamagedError, LogGoneError, OpenedLogs, record_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from tests.integration.gateway.conftest import MakeKeyed, filled, item
from tests.integration.gateway.storage.test_item_log_tampering import TAMPERINGS

MEBIBYTE = 1024 * 1024
SAME_REDIS = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def opened() -> OpenedLogs:
    return OpenedLogs(MEBIBYTE)


@pytest.fixture
def keeping(redis: Redis, opened: OpenedLogs) -> ItemLog:
    """The log of a gateway that keeps what it opened. (`items` is that of another one, which keeps nothing.)"""
    return ItemLog(redis, opened)


async def bodies(log: ItemLog, keyed: KeyedObject) -> list[dict[str, Any]]:
    return [stored.body for stored in await log.load(keyed)]


@SAME_REDIS
@given(
    steps=st.lists(
        st.tuples(
            st.booleans(),
            st.one_of(st.lists(st.text(max_size=20), max_size=3), st.integers(min_value=0, max_value=10)),
            st.booleans(),
        ),
        max_size=12,
    )
)
async def test_what_is_kept_is_what_is_stored_whoever_writes(
    steps: list[tuple[bool, list[str] | int, bool]], items: ItemLog, keeping: ItemLog, make_log: MakeKeyed
) -> None:
    keyed = await make_log()
    expected: list[dict[str, Any]] = []
    gone: set[str] = set()
    for here, step, read in steps:
        writer = keeping if here else items
        if isinstance(step, list):
            new = [item(text) for text in step]
            await writer.append(keyed, new)
            expected += new
        elif step < len(expected):
            removed = expected.pop(step)["id"]
            gone.add(removed)
            assert await writer.remove(keyed, removed)
        if read:
            kept, stored = await keeping.load_log(keyed), await items.load_log(keyed)
            assert [one.body for one in kept.items] == expected
            assert (kept.items, kept.removed) == (stored.items, stored.removed)
            assert kept.removed.keys() == gone
            assert [one.body for one in (await keeping.newest(keyed, 2)).items] == expected[-2:]


async def test_only_what_is_new_is_asked_of_the_store(
    redis: Redis, keeping: ItemLog, items: ItemLog, make_log: MakeKeyed
) -> None:
    keyed = await make_log()
    await filled(items, keyed, 100)
    await keeping.load(keyed)

    async def sent() -> int:
        return int((await redis.info("stats"))["total_net_output_bytes"])

    before = await sent()
    await sent()
    asking = await sent() - before
    await items.append(keyed, [item("new")])
    before = await sent()
    read = await keeping.load(keyed)
    assert [one.body["text"] for one in read[-2:]] == ["item 100", "new"]
    assert await sent() - before - asking < 2000
    assert len(read) == 101


@pytest.mark.parametrize("name", TAMPERINGS)
async def test_a_kept_log_that_was_tampered_with_is_right_or_refused(
    name: str, redis: Redis, items: ItemLog, keeping: ItemLog, make_log: MakeKeyed
) -> None:
    keyed, other = await make_log(), await make_log()
    written = await filled(keeping, keyed)
    await filled(items, other)
    if name == "take_a_mark_of_another_conversation":
        await items.remove(other, (await items.load(other))[1].id)
    await TAMPERINGS[name](redis, keyed, other)
    for _ in range(2):
        try:
            assert await bodies(keeping, keyed) == written
        except LogDamagedError:
            continue


@pytest.mark.parametrize("name", ["trim_the_oldest", "delete_the_last_record", "delete_all_records"])
async def test_items_that_are_missing_in_the_store_are_missed_though_they_are_kept(
    name: str, redis: Redis, keeping: ItemLog, make_log: MakeKeyed
) -> None:
    keyed = await make_log()
    await filled(keeping, keyed)
    await TAMPERINGS[name](redis, keyed, keyed)
    with pytest.raises(LogDamagedError):
        await keeping.load(keyed)


async def test_an_older_head_is_refused_though_the_log_is_kept(
    redis: Redis, keeping: ItemLog, make_log: MakeKeyed
) -> None:
    keyed = await make_log()
    await filled(keeping, keyed, 3)
    old: Any = await redis.hget(record_key("conv", keyed.id), "head")
    await keeping.append(keyed, [item()])
    await redis.hset(record_key("conv", keyed.id), "head", old)
    with pytest.raises(LogDamagedError):
        await keeping.load(keyed)


async def test_what_was_deleted_elsewhere_is_not_kept(
    opened: OpenedLogs, items: ItemLog, keeping: ItemLog, make_log: MakeKeyed
) -> None:
    keyed = await make_log()
    written = await filled(keeping, keyed, 3)
    await items.remove(keyed, written[1]["id"])
    assert await bodies(keeping, keyed) == [written[0], written[2]]
    size = opened.in_memory
    await items.destroy(keyed.kind, keyed.id)
    with pytest.raises(LogGoneError):
        await keeping.load(keyed)
    assert opened.in_memory <= size


@pytest.mark.parametrize("how", ["destroyed", "forgotten", "all forgotten"])
async def test_a_kept_log_leaves_the_memory_with_its_key(
    how: str, keyring: Keyring, opened: OpenedLogs, keeping: ItemLog, make_log: MakeKeyed
) -> None:
    made = await make_log()
    tenant, kind, object_id = made.key.tenant, made.kind, made.id
    await filled(keeping, made, 3)
    assert opened.in_memory > 0
    del made
    assert opened.in_memory > 0, "the keyring has the key"
    if how == "destroyed":
        await keyring.destroy(tenant, kind, object_id)
    elif how == "forgotten":
        keyring.forget(tenant, kind, object_id)
    else:
        keyring.forget_all()
    assert opened.in_memory == 0


async def test_a_log_is_served_to_the_key_that_opened_it_only(
    opened: OpenedLogs, keyring: Keyring, keeping: ItemLog, make_log: MakeKeyed
) -> None:
    """An id out of a store may name another tenant's object: with that tenant's own key nothing is found."""
    keyed = await make_log("proj_a")
    await filled(keeping, keyed, 3)
    foreign = KeyedObject("conv", keyed.id, await keyring.create("proj_b", "conv", "conv_of_b"))
    assert opened.get(keyed) is not None
    assert opened.get(foreign) is None
    with pytest.raises(LogDamagedError):
        await keeping.load(foreign)


async def test_kept_logs_take_no_more_memory_than_they_may(redis: Redis, make_log: MakeKeyed) -> None:
    opened = OpenedLogs(60_000)
    keeping = ItemLog(redis, opened)
    logs = [await make_log() for _ in range(4)]
    for keyed in logs:
        for _ in range(10):
            await keeping.append(keyed, [item("x" * 100)])
        assert 0 < opened.in_memory <= 60_000
    assert [opened.get(keyed) is not None for keyed in logs] == [False, False, True, True]
    await keeping.append(logs[3], [item("x" * 30_000)])
    assert opened.get(logs[3]) is None, "one log that is larger than all that may be kept"
    assert len(await keeping.load(logs[3])) == 11
