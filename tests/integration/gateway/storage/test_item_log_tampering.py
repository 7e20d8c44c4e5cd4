"""Whoever can write to Redis can break a conversation, and never change what is read from it."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from cloister_common.vault import VaultError
from cloister_gateway.storage import ItemLog, LogDamagedError, Owner, record_key, seal_field
from redis.asyncio import Redis

from tests.integration.gateway.conftest import MakeOwner, filled, item

Entry = tuple[bytes, dict[bytes, bytes]]
Tamper = Callable[[Redis, Owner, Owner], Awaitable[None]]
TAMPERINGS: dict[str, Tamper] = {}


def tampering(work: Tamper) -> Tamper:
    """Registers what an attacker with write access to Redis does: to the first log, with the second's at hand."""
    TAMPERINGS[work.__name__] = work
    return work


async def entries_of(redis: Redis, owner: Owner) -> list[Entry]:
    found: Any = await redis.xrange(stream(owner))
    return list(found)


def stream(owner: Owner) -> str:
    return f"{record_key(owner.kind, owner.id)}:items"


async def add(redis: Redis, owner: Owner, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
    mapping: dict[Any, Any] = dict(fields)
    await redis.xadd(stream(owner), mapping, id=entry_id)


async def rewrite(redis: Redis, owner: Owner, entries: list[Entry]) -> None:
    await redis.delete(stream(owner))
    for entry_id, fields in entries:
        await add(redis, owner, entry_id, fields)


@tampering
async def swap_two_records(redis: Redis, owner: Owner, _: Owner) -> None:
    entries = await entries_of(redis, owner)
    entries[1], entries[2] = (entries[1][0], entries[2][1]), (entries[2][0], entries[1][1])
    await rewrite(redis, owner, entries)


@tampering
async def swap_the_bytes_of_two_records(redis: Redis, owner: Owner, _: Owner) -> None:
    entries = await entries_of(redis, owner)
    entries[1][1][b"r"], entries[2][1][b"r"] = entries[2][1][b"r"], entries[1][1][b"r"]
    await rewrite(redis, owner, entries)


@tampering
async def take_a_record_of_another_conversation(redis: Redis, owner: Owner, other: Owner) -> None:
    entries, others = await entries_of(redis, owner), await entries_of(redis, other)
    entries[2] = (entries[2][0], others[2][1])
    await rewrite(redis, owner, entries)


@tampering
async def take_all_records_of_another_conversation(redis: Redis, owner: Owner, other: Owner) -> None:
    await rewrite(redis, owner, await entries_of(redis, other))


@tampering
async def copy_a_whole_other_conversation(redis: Redis, owner: Owner, other: Owner) -> None:
    await redis.copy(stream(other), stream(owner), replace=True)
    await redis.copy(record_key("conv", other.id), record_key("conv", owner.id), replace=True)


@tampering
async def edit_one_byte(redis: Redis, owner: Owner, _: Owner) -> None:
    entries = await entries_of(redis, owner)
    record = bytearray(entries[2][1][b"r"])
    record[-20] ^= 1
    entries[2][1][b"r"] = bytes(record)
    await rewrite(redis, owner, entries)


@tampering
async def cut_a_record_short(redis: Redis, owner: Owner, _: Owner) -> None:
    entries = await entries_of(redis, owner)
    entries[2][1][b"r"] = entries[2][1][b"r"][:40]
    await rewrite(redis, owner, entries)


@tampering
async def delete_the_last_record(redis: Redis, owner: Owner, _: Owner) -> None:
    entries = await entries_of(redis, owner)
    await redis.xdel(stream(owner), entries[-1][0])


@tampering
async def delete_a_record_in_the_middle(redis: Redis, owner: Owner, _: Owner) -> None:
    entries = await entries_of(redis, owner)
    await redis.xdel(stream(owner), entries[1][0])


@tampering
async def trim_the_oldest(redis: Redis, owner: Owner, _: Owner) -> None:
    await redis.xtrim(stream(owner), maxlen=3, approximate=False)


@tampering
async def delete_all_records(redis: Redis, owner: Owner, _: Owner) -> None:
    await redis.delete(stream(owner))


@tampering
async def add_a_copy_of_a_record_at_the_end(redis: Redis, owner: Owner, _: Owner) -> None:
    entries = await entries_of(redis, owner)
    await add(redis, owner, b"6-0", entries[0][1])


@tampering
async def add_a_second_record_at_a_taken_place(redis: Redis, owner: Owner, _: Owner) -> None:
    entries = await entries_of(redis, owner)
    await add(redis, owner, b"5-1", entries[0][1])


@tampering
async def change_an_item_id(redis: Redis, owner: Owner, _: Owner) -> None:
    entries = await entries_of(redis, owner)
    entries[1][1][b"i"] = b"msg_other"
    await rewrite(redis, owner, entries)


@tampering
async def drop_an_item_id(redis: Redis, owner: Owner, _: Owner) -> None:
    entries = await entries_of(redis, owner)
    del entries[1][1][b"i"]
    await rewrite(redis, owner, entries)


@tampering
async def take_the_head_of_another_conversation(redis: Redis, owner: Owner, other: Owner) -> None:
    head: Any = await redis.hget(record_key("conv", other.id), "head")
    await redis.hset(record_key("conv", owner.id), "head", head)


@tampering
async def take_a_mark_of_another_conversation(redis: Redis, owner: Owner, other: Owner) -> None:
    await redis.xdel(stream(owner), "2-0")
    await redis.copy(f"{record_key('conv', other.id)}:removed", f"{record_key('conv', owner.id)}:removed")


@pytest.mark.parametrize("same_tenant", [True, False], ids=["same tenant", "other tenant"])
@pytest.mark.parametrize("name", TAMPERINGS)
async def test_a_tampered_log_is_never_served(
    name: str, same_tenant: bool, redis: Redis, items: ItemLog, make_log: MakeOwner
) -> None:
    owner, other = await make_log(), await make_log("proj_a" if same_tenant else "proj_b")
    await filled(items, owner)
    await filled(items, other)
    if name == "take_a_mark_of_another_conversation":
        await items.remove(other, (await items.load(other))[1].id)
    await TAMPERINGS[name](redis, owner, other)
    with pytest.raises((LogDamagedError, VaultError)):
        await items.load(owner)


async def test_an_older_head_alone_is_refused(redis: Redis, items: ItemLog, make_log: MakeOwner) -> None:
    owner = await make_log()
    await filled(items, owner, 3)
    old: Any = await redis.hget(record_key("conv", owner.id), "head")
    await items.append(owner, [item()])
    await redis.hset(record_key("conv", owner.id), "head", old)
    with pytest.raises(LogDamagedError):
        await items.load(owner)
    with pytest.raises(LogDamagedError):
        await items.append(owner, [item()])


async def test_a_deleted_item_cannot_be_put_back(redis: Redis, items: ItemLog, make_log: MakeOwner) -> None:
    owner = await make_log()
    written = await filled(items, owner)
    before = await entries_of(redis, owner)
    await items.remove(owner, written[1]["id"])
    await rewrite(redis, owner, before)
    with pytest.raises(LogDamagedError):
        await items.load(owner)
    await redis.delete(f"{record_key('conv', owner.id)}:removed")
    with pytest.raises(LogDamagedError):
        await items.load(owner)


async def test_a_stream_longer_than_its_head_takes_no_more(redis: Redis, items: ItemLog, make_log: MakeOwner) -> None:
    owner, other = await make_log(), await make_log()
    await filled(items, owner)
    await add_a_copy_of_a_record_at_the_end(redis, owner, other)
    with pytest.raises(LogDamagedError):
        await items.append(owner, [item()])


async def test_removed_marks_cannot_be_moved_between_places(redis: Redis, items: ItemLog, make_log: MakeOwner) -> None:
    owner = await make_log()
    written = await filled(items, owner)
    await items.remove(owner, written[1]["id"])
    removed = f"{record_key('conv', owner.id)}:removed"
    mark: Any = await redis.hget(removed, "2")
    await redis.hset(removed, "4", mark)
    await redis.xdel(stream(owner), "4-0")
    with pytest.raises(LogDamagedError):
        await items.load(owner)


async def test_marks_of_the_version_before_ids_were_in_them_are_read(
    redis: Redis, items: ItemLog, make_log: MakeOwner
) -> None:
    owner = await make_log()
    written = await filled(items, owner)
    (_, fields) = (await entries_of(redis, owner))[1]
    await items.remove(owner, written[1]["id"])
    old = seal_field(owner.key, "conv", owner.id, "removed:2", hashlib.sha256(fields[b"r"]).hexdigest())
    await redis.hset(f"{record_key('conv', owner.id)}:removed", "2", old)
    assert [item.id for item in await items.load(owner)] == [body["id"] for body in written if body != written[1]]


async def test_a_head_that_does_not_open_refuses_writers_too(redis: Redis, items: ItemLog, make_log: MakeOwner) -> None:
    owner, other = await make_log(), await make_log()
    written = await filled(items, owner, 1)
    await take_the_head_of_another_conversation(redis, owner, other)
    with pytest.raises(LogDamagedError):
        await items.append(owner, [item()])
    with pytest.raises(LogDamagedError):
        await items.remove(owner, written[0]["id"])


async def test_the_store_holds_nothing_readable(redis: Redis, items: ItemLog, make_log: MakeOwner) -> None:
    owner = await make_log()
    body = item("CANARY-6f1d")
    await items.append(owner, [body])
    await items.remove(owner, body["id"])
    await items.append(owner, [item("CANARY-6f1d")])
    for key in await redis.keys("*"):
        dumped: Any = await redis.dump(key)
        assert b"CANARY" not in dumped
