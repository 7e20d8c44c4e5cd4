"""The item log of a conversation: a Redis Stream of sealed records, chained, with a sealed head.

Item number ``seq`` (from 1) is stored under the explicit stream id ``seq-0``; Redis refuses an id that is not larger
than the last, so two writers can never both take a place. Each record is bound to its tenant, conversation, place,
item id and to the chain of everything before it:

    chain(0) = zeros;  chain(n) = HMAC-SHA256(chain key, encode(chain(n-1), n, SHA256(record n)))

and the head, sealed beside the stream, holds the count and the chain, so that a log that was cut at its end shows.
A deleted item leaves its digest, sealed, so that the chain can still be followed over the hole it left.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from cloister_common.vault import DataKey, VaultError, encode_context, open_record, seal
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from cloister_gateway.state.records import open_field, record_key, seal_field

__all__ = ["ItemLog", "LogDamagedError", "LogGoneError", "LogLockedError", "Owner", "StoredItem"]

_START = b"\0" * 32

# KEYS: object, its items, its removed items. ARGV: run that writes ("" for none), run that holds the log afterwards,
# expected count, new count, new head, then item id and record for each item.
_APPEND = """
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.error_reply('GONE the object was deleted') end
local holder = redis.call('HGET', KEYS[1], 'run') or ''
if holder ~= '' and holder ~= ARGV[1] then return redis.error_reply('LOCKED ' .. holder) end
if (redis.call('HGET', KEYS[1], 'count') or '0') ~= ARGV[3] then return redis.error_reply('STALE the log moved on') end
for i = 6, #ARGV, 2 do
  redis.call('XADD', KEYS[2], (tonumber(ARGV[3]) + (i - 4) / 2) .. '-0', 'i', ARGV[i], 'r', ARGV[i + 1])
end
redis.call('HSET', KEYS[1], 'count', ARGV[4], 'head', ARGV[5])
if ARGV[2] == '' then redis.call('HDEL', KEYS[1], 'run') else redis.call('HSET', KEYS[1], 'run', ARGV[2]) end
return redis.status_reply('OK')
"""


class LogGoneError(Exception):
    """The object was deleted; nothing was written."""


class LogLockedError(Exception):
    """Another run is writing this log; nothing was written. ``args[0]`` is that run's id."""


class LogDamagedError(Exception):
    """The stored log is not what was written: an item is missing, moved, altered or cut off. Nothing is served."""


class Owner(NamedTuple):
    """The object a log belongs to, with its data key."""

    kind: str
    id: str
    key: DataKey


class StoredItem(NamedTuple):
    """One item as it was stored."""

    seq: int
    id: str
    body: dict[str, Any]


class _Head(NamedTuple):
    length: int
    chain: bytes


class ItemLog:
    """Reads and appends item logs. One instance serves all conversations."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._append_script = redis.register_script(_APPEND)

    def new_head(self, owner: Owner) -> dict[str, bytes | str]:
        """The hash fields of an empty log, to be written when the object is created."""
        return {"count": "0", "head": self._seal_head(owner, _Head(0, _START))}

    async def load(self, owner: Owner) -> list[StoredItem]:
        """All items in order, after checking the whole chain against the head.

        Raises:
            LogGoneError: There is no such object.
            LogDamagedError: The chain does not hold.
        """
        items, _ = await self._load(owner)
        return items

    async def append(
        self, owner: Owner, bodies: Sequence[dict[str, Any]], *, run: str = "", hold_for: str = ""
    ) -> list[StoredItem]:
        """Appends items (each with its ``id``), all or none, durably. Items that are at the end already stay alone,
        so that whoever repeats a write that may have happened does no harm.

        Args:
            owner: The object.
            bodies: The items, as JSON.
            run: The run that writes. Only it may write while it holds the log; without a run the log must be free.
            hold_for: The run that holds the log from now on; empty sets it free.

        Raises:
            LogGoneError, LogLockedError, LogDamagedError: Nothing was written.
        """
        while True:
            head, last_ids = await self._end(owner, len(bodies))
            fresh = [body for body in bodies if body["id"] not in last_ids]
            records, stored, chain = self._seal_items(owner, fresh, head)
            new_head = self._seal_head(owner, _Head(head.length + len(fresh), chain))
            arguments: list[str | bytes | int] = [run, hold_for, head.length, head.length + len(fresh), new_head]
            for item, record in zip(stored, records, strict=True):
                arguments += [item.id, record]
            try:
                await self._append_script(keys=self._keys(owner), args=arguments)
            except ResponseError as error:
                if self._must_retry(error):
                    continue
                raise
            return stored

    async def remove(self, owner: Owner, item_id: str) -> bool:
        """Deletes an item's record, leaving its sealed digest for the chain. False if there is no such item."""
        _, items_key, removed_key = self._keys(owner)
        entries: Any = await self._redis.xrange(items_key)
        for stream_id, fields in entries:
            if fields[b"i"].decode() != item_id:
                continue
            seq = int(stream_id.split(b"-")[0])
            mark = seal_field(owner.key, owner.kind, owner.id, f"removed:{seq}", _digest(fields[b"r"]).hex())
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hset(removed_key, str(seq), mark)
                pipeline.xdel(items_key, stream_id)
                await pipeline.execute()
            return True
        return False

    async def destroy(self, owner_kind: str, owner_id: str) -> None:
        """Removes the object's hash and log. (The caller destroys the data key.)"""
        key = record_key(owner_kind, owner_id)
        await self._redis.delete(key, f"{key}:items", f"{key}:removed")

    def _keys(self, owner: Owner) -> list[str]:
        key = record_key(owner.kind, owner.id)
        return [key, f"{key}:items", f"{key}:removed"]

    @staticmethod
    def _must_retry(error: ResponseError) -> bool:
        reason = str(error)
        if reason.startswith("GONE"):
            raise LogGoneError from error
        if reason.startswith("LOCKED"):
            raise LogLockedError(reason.split(" ")[1]) from error
        return reason.startswith("STALE")

    async def _end(self, owner: Owner, count: int) -> tuple[_Head, set[str]]:
        """The head, and the ids of the last ``count`` items."""
        object_key, items_key, _ = self._keys(owner)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(object_key, "head")
            pipeline.xrevrange(items_key, count=count)
            sealed_head, entries = await pipeline.execute()
        if sealed_head is None:
            raise LogGoneError
        try:
            head = self._open_head(owner, sealed_head)
        except VaultError as error:
            raise LogDamagedError from error
        return head, {fields[b"i"].decode() for _, fields in entries}

    async def _load(self, owner: Owner) -> tuple[list[StoredItem], _Head]:
        object_key, items_key, removed_key = self._keys(owner)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(object_key, "head")
            pipeline.xrange(items_key)
            pipeline.hgetall(removed_key)
            sealed_head, entries, removed = await pipeline.execute()
        if sealed_head is None:
            raise LogGoneError
        try:
            head = self._open_head(owner, sealed_head)
            items = self._follow(owner, head, entries, removed)
        except VaultError as error:
            raise LogDamagedError from error
        return items, head

    def _follow(
        self, owner: Owner, head: _Head, entries: list[tuple[bytes, dict[bytes, bytes]]], removed: dict[bytes, bytes]
    ) -> list[StoredItem]:
        by_seq = {int(stream_id.split(b"-")[0]): fields for stream_id, fields in entries}
        if by_seq and max(by_seq) > head.length:
            raise LogDamagedError
        chain, items = _START, []
        for seq in range(1, head.length + 1):
            fields = by_seq.get(seq)
            if fields is None:
                mark = removed.get(str(seq).encode())
                if mark is None:
                    raise LogDamagedError
                digest = bytes.fromhex(open_field(owner.key, owner.kind, owner.id, f"removed:{seq}", mark))
            else:
                item_id, record = fields[b"i"].decode(), fields[b"r"]
                plaintext = open_record(owner.key.subkey("items"), record, _context(owner, seq, item_id, chain))
                items.append(StoredItem(seq, item_id, orjson.loads(plaintext)))
                digest = _digest(record)
            chain = _link(owner, chain, seq, digest)
        if not hmac.compare_digest(chain, head.chain):
            raise LogDamagedError
        return items

    def _seal_items(
        self, owner: Owner, bodies: Sequence[dict[str, Any]], head: _Head
    ) -> tuple[list[bytes], list[StoredItem], bytes]:
        records, stored, chain = [], [], head.chain
        for seq, body in enumerate(bodies, start=head.length + 1):
            item_id = str(body["id"])
            context = _context(owner, seq, item_id, chain)
            record = seal(owner.key.subkey("items"), orjson.dumps(body), context)
            records.append(record)
            stored.append(StoredItem(seq, item_id, body))
            chain = _link(owner, chain, seq, _digest(record))
        return records, stored, chain

    @staticmethod
    def _seal_head(owner: Owner, head: _Head) -> bytes:
        value = {"length": head.length, "chain": head.chain.hex()}
        return seal_field(owner.key, owner.kind, owner.id, "head", value)

    @staticmethod
    def _open_head(owner: Owner, sealed: bytes) -> _Head:
        value = open_field(owner.key, owner.kind, owner.id, "head", sealed)
        return _Head(value["length"], bytes.fromhex(value["chain"]))


def _digest(record: bytes) -> bytes:
    return hashlib.sha256(record).digest()


def _link(owner: Owner, chain: bytes, seq: int, digest: bytes) -> bytes:
    return hmac.new(owner.key.subkey("chain"), encode_context(chain, seq, digest), hashlib.sha256).digest()


def _context(owner: Owner, seq: int, item_id: str, chain: bytes) -> bytes:
    return encode_context("item", owner.key.tenant, owner.kind, owner.id, seq, item_id, chain)
