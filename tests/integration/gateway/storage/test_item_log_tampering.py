"""Whoever can write to Redis can break a conversation, and never change what is read from it."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from cloister_common.vault import VaultError
from cloister_gateway.storage import (
    ItemLog,
    KeyedObject,
    LogDamagedError,
    OpenedLogs,
    open_field,
    record_key,
    seal_field,
)
from redis.asyncio import Redis

from tests.integration.gateway.conftest import MakeKeyed, filled, item

Entry = tuple[bytes, dict[bytes, bytes]]
Tamper = Callable[[Redis, KeyedObject, KeyedObject], Awaitable[None]]
TAMPERINGS: dict[str, Tamper] = {}


def tampering(work: Tamper) -> Tamper:
    """Registers what an attacker with write access to Redis does: to the first log, with the second's at hand."""
    TAMPERINGS[work.__name__] = work
    return work


async def entries_of(redis: Redis, keyed: KeyedObject) -> list[Entry]:
    found: Any = await redis.xrange(stream(keyed))
    return list(found)


def stream(keyed: KeyedObject) -> str:
    return f"{record_key(keyed.kind, keyed.id)}:items"


async def add(redis: Redis, keyed: KeyedObject, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
    mapping: dict[Any, Any] = dict(fields)
    await redis.xadd(stream(keyed), mapping, id=entry_id)


async def rewrite(redis: Redis, keyed: KeyedObject, entries: list[Entry]) -> None:
    await redis.delete(stream(keyed))
    for entry_id, fields in entries:
        await add(redis, keyed, entry_id, fields)


@tampering
async def swap_two_records(redis: Redis, keyed: KeyedObject, _: KeyedObject) -> None:
    entries = await entries_of(redis, keyed)
    entries[1], entries[2] = (entries[1][0], entries[2][1]), (entries[2][0], entries[1][1])
    await rewrite(redis, keyed, entries)


@tampering
async def swap_the_bytes_of_two_records(redis: Redis, keyed: KeyedObject, _: KeyedObject) -> None:
    entries = await entries_of(redis, keyed)
    entries[1][1][b"r"], entries[2][1][b"r"] = entries[2][1][b"r"], entries[1][1][b"r"]
    await rewrite(redis, keyed, entries)


@tampering
async def take_a_record_of_another_conversation(redis: Redis, keyed: KeyedObject, other: KeyedObject) -> None:
    entries, others = await entries_of(redis, keyed), await entries_of(redis, other)
    entries[2] = (entries[2][0], others[2][1])
    await rewrite(redis, keyed, entries)


@tampering
async def take_all_records_of_another_conversation(redis: Redis, keyed: KeyedObject, other: KeyedObject) -> None:
    await rewrite(redis, keyed, await entries_of(redis, other))


@tampering
async def copy_a_whole_other_conversation(redis: Redis, keyed: KeyedObject, other: KeyedObject) -> None:
    await redis.copy(stream(other), stream(keyed), replace=True)
    await redis.copy(record_key("conv", other.id), record_key("conv", keyed.id), replace=True)


@tampering
async def edit_one_byte(redis: Redis, keyed: KeyedObject, _: KeyedObject) -> None:
    entries = await entries_of(redis, keyed)
    record = bytearray(entries[2][1][b"r"])
    record[-20] ^= 1
    entries[2][1][b"r"] = bytes(record)
    await rewrite(redis, keyed, entries)


@tampering
async def cut_a_record_short(redis: Redis, keyed: KeyedObject, _: KeyedObject) -> None:
    entries = await entries_of(redis, keyed)
    entries[2][1][b"r"] = entries[2][1][b"r"][:40]
    await rewrite(redis, keyed, entries)


@tampering
async def delete_the_last_record(redis: Redis, keyed: KeyedObject, _: KeyedObject) -> None:
    entries = await entries_of(redis, keyed)
    await redis.xdel(stream(keyed), entries[-1][0])


@tampering
async def delete_a_record_in_the_middle(redis: Redis, keyed: KeyedObject, _: KeyedObject) -> None:
    entries = await entries_of(redis, keyed)
    await redis.xdel(stream(keyed), entries[1][0])


@tampering
async def trim_the_oldest(redis: Redis, keyed: KeyedObject, _: KeyedObject) -> None:
    await redis.xtrim(stream(keyed), maxlen=3, approximate=False)


@tampering
async def delete_all_records(redis: Redis, keyed: KeyedObject, _: KeyedObject) -> None:
    await redis.delete(stream(keyed))


@tampering
async def add_a_copy_of_a_record_at_the_end(redis: Redis, keyed: KeyedObject, _: KeyedObject) -> None:
    entries = await entries_of(redis, keyed)
    await add(redis, keyed, b"6-0", entries[0][1])


@tampering
async def add_a_second_record_at_a_taken_place(redis: Redis, keyed: KeyedObject, _: KeyedObject) -> None:
    entries = await entries_of(redis, keyed)
    await add(redis, keyed, b"5-1", entries[0][1])


@tampering
async def change_an_item_id(redis: Redis, keyed: KeyedObject, _: KeyedObject) -> None:
    entries = await entries_of(redis, keyed)
    entries[1][1][b"i"] = b"msg_other"
    await rewrite(redis, keyed, entries)


@tampering
async def drop_an_item_id(redis: Redis, keyed: KeyedObject, _: KeyedObject) -> None:
    entries = await entries_of(redis, keyed)
    del entries[1][1][b"i"]
    await rewrite(redis, keyed, entries)


@tampering
async def take_the_head_of_another_conversation(redis: Redis, keyed: KeyedObject, other: KeyedObject) -> None:
    head: Any = await redis.hget(record_key("conv", other.id), "head")
    await redis.hset(record_key("conv", keyed.id), "head", head)


@tampering
async def take_a_mark_of_another_conversation(redis: Redis, keyed: KeyedObject, other: KeyedObject) -> None:
    await redis.xdel(stream(keyed), "2-0")
    await redis.copy(f"{record_key('conv', other.id)}:removed", f"{record_key('conv', keyed.id)}:removed")


@pytest.mark.parametrize("same_tenant", [True, False], ids=["same tenant", "other tenant"])
@pytest.mark.parametrize("name", TAMPERINGS)
async def test_a_tampered_log_is_never_served(
    name: str, same_tenant: bool, redis: Redis, items: ItemLog, make_log: MakeKeyed
) -> None:
    keyed, other = await make_log(), await make_log("proj_a" if same_tenant else "proj_b")
    await filled(items, keyed)
    await filled(items, other)
    if name == "take_a_mark_of_another_conversation":
        await items.remove(other, (await items.load(other))[1].id)
    await TAMPERINGS[name](redis, keyed, other)
    with pytest.raises((LogDamagedError, VaultError)):
        await items.load(keyed)


async def test_an_older_head_alone_is_refused(redis: Redis, items: ItemLog, make_log: MakeKeyed) -> None:
    keyed = await make_log()
    await filled(items, keyed, 3)
    old: Any = await redis.hget(record_key("conv", keyed.id), "head")
    await items.append(keyed, [item()])
    await redis.hset(record_key("conv", keyed.id), "head", old)
    with pytest.raises(LogDamagedError):
        await items.load(keyed)
    with pytest.raises(LogDamagedError):
        await items.append(keyed, [item()])


async def test_a_deleted_item_cannot_be_put_back(redis: Redis, items: ItemLog, make_log: MakeKeyed) -> None:
    keyed = await make_log()
    written = await filled(items, keyed)
    before = await entries_of(redis, keyed)
    await items.remove(keyed, written[1]["id"])
    await rewrite(redis, keyed, before)
    with pytest.raises(LogDamagedError):
        await items.load(keyed)
    await redis.delete(f"{record_key('conv', keyed.id)}:removed")
    with pytest.raises(LogDamagedError):
        await items.load(keyed)


async def test_a_stream_longer_than_its_head_takes_no_more(redis: Redis, items: ItemLog, make_log: MakeKeyed) -> None:
    keyed, other = await make_log(), await make_log()
    await filled(items, keyed)
    await add_a_copy_of_a_record_at_the_end(redis, keyed, other)
    with pytest.raises(LogDamagedError):
        await items.append(keyed, [item()])


async def test_removed_marks_cannot_be_moved_between_places(redis: Redis, items: ItemLog, make_log: MakeKeyed) -> None:
    keyed = await make_log()
    written = await filled(items, keyed)
    await items.remove(keyed, written[1]["id"])
    removed = f"{record_key('conv', keyed.id)}:removed"
    mark: Any = await redis.hget(removed, "2")
    await redis.hset(removed, "4", mark)
    await redis.xdel(stream(keyed), "4-0")
    with pytest.raises(LogDamagedError):
        await items.load(keyed)


async def test_marks_of_the_version_before_ids_were_in_them_are_read(
    redis: Redis, items: ItemLog, make_log: MakeKeyed
) -> None:
    keyed = await make_log()
    written = await filled(items, keyed)
    (_, fields) = (await entries_of(redis, keyed))[1]
    await items.remove(keyed, written[1]["id"])
    old = seal_field(keyed.key, "conv", keyed.id, "removed:2", hashlib.sha256(fields[b"r"]).hexdigest())
    await redis.hset(f"{record_key('conv', keyed.id)}:removed", "2", old)
    assert [item.id for item in await items.load(keyed)] == [body["id"] for body in written if body != written[1]]


async def test_a_head_that_does_not_open_refuses_writers_too(redis: Redis, items: ItemLog, make_log: MakeKeyed) -> None:
    keyed, other = await make_log(), await make_log()
    written = await filled(items, keyed, 1)
    await take_the_head_of_another_conversation(redis, keyed, other)
    with pytest.raises(LogDamagedError):
        await items.append(keyed, [item()])
    with pytest.raises(LogDamagedError):
        await items.remove(keyed, written[0]["id"])


async def test_the_store_holds_nothing_readable(redis: Redis, items: ItemLog, make_log: MakeKeyed) -> None:
    keyed = await make_log()
    body = item("CANARY-6f1d")
    await items.append(keyed, [body])
    await items.remove(keyed, body["id"])
    await items.append(keyed, [item("CANARY-6f1d")])
    for key in await redis.keys("*"):
        dumped: Any = await redis.dump(key)
        assert b"CANARY" not in dumped


@pytest.mark.parametrize("same_tenant", [True, False], ids=["same tenant", "other tenant"])
@pytest.mark.parametrize("name", TAMPERINGS)
@pytest.mark.parametrize("count", [1, 2, 4])
async def test_the_end_of_a_tampered_log_is_never_served_altered(
    count: int, name: str, same_tenant: bool, redis: Redis, items: ItemLog, make_log: MakeKeyed
) -> None:
    """The newest items are read alone: what was written, or nothing where any of them or their number was touched."""
    keyed, other = await make_log(), await make_log("proj_a" if same_tenant else "proj_b")
    written = await filled(items, keyed)
    await filled(items, other)
    if name == "take_a_mark_of_another_conversation":
        await items.remove(other, (await items.load(other))[1].id)
    before = await entries_of(redis, keyed)
    await TAMPERINGS[name](redis, keyed, other)
    touched = {seq for seq, one, two in compared(before, await entries_of(redis, keyed)) if one != two}
    try:
        read = await items.newest(keyed, count)
    except LogDamagedError:
        return
    assert touched <= set(range(1, 6 - count)), "what was read is not what was altered"
    assert [item.body for item in read.items] == written[-count:]
    assert read.older == 5 - count


def compared(before: list[Entry], after: list[Entry]) -> list[tuple[int, Any, Any]]:
    """Each place with what stood there and what does now. An entry too many is one at the end."""
    old, new = dict(before), dict(after)
    return [(int(key.split(b"-")[0]), old.get(key), new.get(key)) for key in {**old, **new}]


async def test_the_end_of_a_log_is_read_without_the_rest(redis: Redis, items: ItemLog, make_log: MakeKeyed) -> None:
    keyed = await make_log()
    written = await filled(items, keyed)
    entries = await entries_of(redis, keyed)
    # Even where the rest could not be opened: nothing of it was asked for.
    entries[0][1][b"r"] = b"other bytes"
    await rewrite(redis, keyed, entries)
    assert [item.body for item in (await items.newest(keyed, 3)).items] == written[2:]
    with pytest.raises(LogDamagedError):
        await items.newest(keyed, 5)


@pytest.mark.parametrize("claimed", [b"\0" * 32, b"\1" * 32, b"short"])
async def test_a_false_chain_beside_a_record_is_found_out(
    claimed: bytes, redis: Redis, items: ItemLog, make_log: MakeKeyed
) -> None:
    keyed = await make_log()
    await filled(items, keyed)
    entries = await entries_of(redis, keyed)
    entries[3][1][b"c"] = claimed
    await rewrite(redis, keyed, entries)
    with pytest.raises(LogDamagedError):
        await items.newest(keyed, 2)


async def test_an_older_head_shows_at_the_end_too(redis: Redis, items: ItemLog, make_log: MakeKeyed) -> None:
    keyed = await make_log()
    await filled(items, keyed, 3)
    old: Any = await redis.hget(record_key("conv", keyed.id), "head")
    await items.append(keyed, [item()])
    await redis.hset(record_key("conv", keyed.id), "head", old)
    with pytest.raises(LogDamagedError):
        await items.newest(keyed, 1)


@pytest.mark.parametrize("mark_stays", [True, False])
async def test_a_deleted_item_does_not_come_back_at_the_end(
    mark_stays: bool, redis: Redis, items: ItemLog, make_log: MakeKeyed
) -> None:
    keyed = await make_log()
    written = await filled(items, keyed)
    before = await entries_of(redis, keyed)
    await items.remove(keyed, written[3]["id"])
    read = await items.newest(keyed, 2)
    assert [one.body for one in read.items] == [written[2], written[4]]
    assert (read.removed, read.older) == ({written[3]["id"]: 4}, 2)
    await rewrite(redis, keyed, before)
    if not mark_stays:
        await redis.delete(f"{record_key('conv', keyed.id)}:removed")
    with pytest.raises(LogDamagedError):
        await items.newest(keyed, 2)


async def test_a_log_of_the_version_before_chains_lay_beside_records_is_read_and_goes_on(
    redis: Redis, items: ItemLog, make_log: MakeKeyed
) -> None:
    keyed = await make_log()
    written = await filled(items, keyed)
    await items.remove(keyed, written.pop(1)["id"])
    sealed: Any = await redis.hget(record_key("conv", keyed.id), "head")
    head = open_field(keyed.key, "conv", keyed.id, "head", sealed)
    del head["holes"]
    await redis.hset(record_key("conv", keyed.id), "head", seal_field(keyed.key, "conv", keyed.id, "head", head))
    entries = await entries_of(redis, keyed)
    for _, fields in entries:
        del fields[b"c"]
    await rewrite(redis, keyed, entries)
    keeping = ItemLog(redis, OpenedLogs(1024 * 1024))
    for log in (items, keeping):
        assert [one.body for one in (await log.newest(keyed, 1)).items] == written[-1:]
        assert [one.body for one in await log.load(keyed)] == written
        written += await filled(log, keyed, 1)
        assert [one.body for one in await log.load(keyed)] == written
        await log.remove(keyed, written.pop(0)["id"])
        assert [one.body for one in await log.load(keyed)] == written
        assert [one.body for one in (await log.newest(keyed, 1)).items] == written[-1:]
