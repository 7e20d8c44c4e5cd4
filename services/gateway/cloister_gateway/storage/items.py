"""The item log of a conversation: a Redis Stream of sealed records, chained, with a sealed head.

Item number ``seq`` (from 1) is stored under the explicit stream id ``seq-0``; Redis refuses an id that is not larger
than the last, so two writers can never both take a place. Each record is bound to its tenant, conversation, place,
item id and to the chain of everything before it:

    chain(0) = zeros;  chain(n) = HMAC-SHA256(chain key, encode(chain(n-1), n, SHA256(record n)))

and the head, sealed beside the stream, holds the count and the chain, so that a log that was cut at its end shows.
A deleted item leaves its digest and its id, sealed, so that the chain can still be followed over the hole it left, and
a list can be read on from there; the head counts the holes, so that none can be added or filled again. Every write
replaces the very head it was made from.
"""

import hashlib
import hmac
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import orjson
from cloister_common.vault import VaultError, encode_context, open_record, seal
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from cloister_gateway.storage.damage import damage_told
from cloister_gateway.storage.errors import LogDamagedError, LogGoneError, LogLockedError
from cloister_gateway.storage.layout import items_key, record_key, removed_key
from cloister_gateway.storage.records import KeyedObject, open_field, seal_field

__all__ = ["Addition", "ItemLog", "StoredItem", "StoredLog"]

_START = b"\0" * 32

# KEYS: object, its items. ARGV: run that writes ("" for none), run that holds the log afterwards, the head to replace,
# the new head, the first item's number, then item id and record for each item.
_APPEND = """
local head = redis.call('HGET', KEYS[1], 'head')
if not head then return redis.error_reply('GONE the object was deleted') end
local holder = redis.call('HGET', KEYS[1], 'run') or ''
if holder ~= ARGV[1] then return redis.error_reply('LOCKED ' .. holder) end
if head ~= ARGV[3] then return redis.error_reply('STALE the log moved on') end
for i = 6, #ARGV, 2 do
  redis.call('XADD', KEYS[2], (tonumber(ARGV[5]) + (i - 6) / 2) .. '-0', 'i', ARGV[i], 'r', ARGV[i + 1])
end
redis.call('HSET', KEYS[1], 'head', ARGV[4])
if ARGV[2] == '' then redis.call('HDEL', KEYS[1], 'run') else redis.call('HSET', KEYS[1], 'run', ARGV[2]) end
return redis.status_reply('OK')
"""

# KEYS: object, its items, its removed items. ARGV: the head to replace, the new head, the item's stream id and number,
# its mark.
_REMOVE = """
local head = redis.call('HGET', KEYS[1], 'head')
if not head then return redis.error_reply('GONE the object was deleted') end
if head ~= ARGV[1] then return redis.error_reply('STALE the log moved on') end
redis.call('XDEL', KEYS[2], ARGV[3])
redis.call('HSET', KEYS[3], ARGV[4], ARGV[5])
redis.call('HSET', KEYS[1], 'head', ARGV[2])
return redis.status_reply('OK')
"""

# KEYS: object. ARGV: the run that is known to have ended.
_FREE = "if redis.call('HGET', KEYS[1], 'run') == ARGV[1] then redis.call('HDEL', KEYS[1], 'run') end return 0"


class StoredItem(NamedTuple):
    """One item as it was stored."""

    seq: int
    id: str
    body: dict[str, Any]


class StoredLog(NamedTuple):
    """All of a log."""

    items: list[StoredItem]
    removed: dict[str, int]
    """The numbers of deleted items by their ids."""


class Addition(NamedTuple):
    """Items that are sealed for one place of one log: they can be appended as long as nothing else is written there.

    Attributes:
        before: The sealed head that must still stand.
        after: The sealed head that takes its place.
        first: The number of the first item.
        entries: The id and the sealed record of each item, one after another.
        stored: The items.
    """

    before: bytes
    after: bytes
    first: int
    entries: list[str | bytes]
    stored: list[StoredItem]


class _Head(NamedTuple):
    length: int
    chain: bytes
    removed: int


class ItemLog:
    """Reads and appends item logs. One instance serves all conversations."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._append_script = redis.register_script(_APPEND)
        self._remove_script = redis.register_script(_REMOVE)
        self._free_script = redis.register_script(_FREE)

    def new_head(self, keyed: KeyedObject) -> dict[str, bytes | str]:
        """The hash fields of an empty log, to be written when the object is created."""
        return {"head": self._seal_head(keyed, _Head(0, _START, 0))}

    async def load(self, keyed: KeyedObject) -> list[StoredItem]:
        """All items in order. Raises as `load_log`."""
        return (await self.load_log(keyed)).items

    async def load_log(self, keyed: KeyedObject) -> StoredLog:
        """All items in order, and where items were, after checking the whole chain against the head.

        Raises:
            LogGoneError: There is no such object.
            LogDamagedError: The chain does not hold.
        """
        record, items, holes = _keys(keyed.kind, keyed.id)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(record, "head")
            pipeline.xrange(items)
            pipeline.hgetall(holes)
            with _damage_told(keyed):
                sealed_head, entries, removed = await pipeline.execute()
        head = await self._open_head(keyed, sealed_head)
        with _damage_told(keyed):
            return self._follow(keyed, head, entries, removed)

    async def append(
        self, keyed: KeyedObject, bodies: Sequence[dict[str, Any]], *, run: str = "", hold_for: str = ""
    ) -> list[StoredItem]:
        """Appends items (each with its ``id``), all or none, durably.

        Args:
            keyed: The object.
            bodies: The items, as JSON.
            run: The run that writes, which must hold the log; without a run the log must be free. As a run's last
                write sets the log free, a run that writes twice is refused the second time.
            hold_for: The run that holds the log from now on; empty sets it free.

        Raises:
            LogGoneError, LogLockedError, LogDamagedError: Nothing was written.
        """
        keys = _keys(keyed.kind, keyed.id)
        while True:
            with _damage_told(keyed):
                sealed_head: Any = await self._redis.hget(keys[0], "head")
            if sealed_head is None and not await self._redis.exists(keys[0]):
                raise LogGoneError
            new = self.addition(keyed, sealed_head, bodies)
            try:
                with _damage_told(keyed):
                    arguments = [run, hold_for, new.before, new.after, new.first, *new.entries]
                    await self._append_script(keys=keys[:2], args=arguments)
            except ResponseError as error:
                if _must_retry(keyed, error):
                    continue
                raise
            return new.stored

    def addition(self, keyed: KeyedObject, sealed_head: bytes | None, bodies: Sequence[dict[str, Any]]) -> Addition:
        """Seals items (each with its ``id``) as those that follow a head. They are appended here (`append`), or by
        whoever writes them in one step with something else.

        Raises:
            LogDamagedError: The head does not open.
        """
        head = _opened_head(keyed, sealed_head)
        records, stored, chain = self._seal_items(keyed, bodies, head)
        after = self._seal_head(keyed, _Head(head.length + len(bodies), chain, head.removed))
        entries: list[str | bytes] = []
        for item, record in zip(stored, records, strict=True):
            entries += [item.id, record]
        return Addition(sealed_head or b"", after, head.length + 1, entries, stored)

    async def remove(self, keyed: KeyedObject, item_id: str) -> bool:
        """Deletes an item's record, leaving its sealed digest for the chain. False if there is no such item.

        Raises:
            LogGoneError, LogDamagedError: Nothing was written.
        """
        record, items, _ = keys = _keys(keyed.kind, keyed.id)
        while True:
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hget(record, "head")
                pipeline.xrange(items)
                with _damage_told(keyed):
                    sealed_head, entries = await pipeline.execute()
            head = await self._open_head(keyed, sealed_head)
            found = next((entry for entry in entries if entry[1].get(b"i") == item_id.encode()), None)
            if found is None:
                return False
            stream_id, fields = found
            with _damage_told(keyed):
                seq, digest = _seq(stream_id), _digest(fields[b"r"])
            left = {"digest": digest.hex(), "id": item_id}
            mark = seal_field(keyed.key, keyed.kind, keyed.id, f"removed:{seq}", left)
            new_head = self._seal_head(keyed, head._replace(removed=head.removed + 1))
            try:
                arguments: list[Any] = [sealed_head, new_head, stream_id, seq, mark]
                with _damage_told(keyed):
                    await self._remove_script(keys=keys, args=arguments)
            except ResponseError as error:
                if _must_retry(keyed, error):
                    continue
                raise
            return True

    async def head(self, keyed: KeyedObject) -> bytes | None:
        """The sealed head that stands now, for `addition`; None if there is none."""
        with _damage_told(keyed):
            head: Any = await self._redis.hget(record_key(keyed.kind, keyed.id), "head")
        return None if head is None else bytes(head)

    async def holder(self, owner_kind: str, owner_id: str) -> str | None:
        """The run that holds the object's log."""
        run: Any = await self._redis.hget(record_key(owner_kind, owner_id), "run")
        return None if run is None else run.decode(errors="replace")

    async def free(self, owner_kind: str, owner_id: str, run: str) -> bool:
        """Sets the object's log free of a run that will never write again; says whether that run held it."""
        return bool(await self._free_script(keys=[record_key(owner_kind, owner_id)], args=[run]))

    async def destroy(self, owner_kind: str, owner_id: str) -> None:
        """Removes the object's hash and log. (The caller destroys the data key.)"""
        await self._redis.delete(*_keys(owner_kind, owner_id))

    def _follow(
        self,
        keyed: KeyedObject,
        head: _Head,
        entries: list[tuple[bytes, dict[bytes, bytes]]],
        removed: dict[bytes, bytes],
    ) -> StoredLog:
        by_seq = {_seq(stream_id): fields for stream_id, fields in entries}
        marks = {int(seq): mark for seq, mark in removed.items()}
        places = [*by_seq, *marks]
        if sorted(places) != list(range(1, head.length + 1)) or len(marks) != head.removed:
            raise VaultError
        chain = _START
        items: list[StoredItem] = []
        gone: dict[str, int] = {}
        for seq in range(1, head.length + 1):
            fields = by_seq.get(seq)
            if fields is None:
                left = open_field(keyed.key, keyed.kind, keyed.id, f"removed:{seq}", marks[seq])
                if isinstance(left, str):  # As marks were before they held ids: the digest alone.
                    left = {"digest": left, "id": ""}
                digest = bytes.fromhex(left["digest"])
                gone[left["id"]] = seq
            else:
                item_id, record = fields[b"i"].decode(), fields[b"r"]
                plaintext = open_record(keyed.key.subkey("items"), record, _context(keyed, seq, item_id, chain))
                items.append(StoredItem(seq, item_id, orjson.loads(plaintext)))
                digest = _digest(record)
            chain = _link(keyed, chain, seq, digest)
        if not hmac.compare_digest(chain, head.chain):
            raise VaultError
        return StoredLog(items, gone)

    def _seal_items(
        self, keyed: KeyedObject, bodies: Sequence[dict[str, Any]], head: _Head
    ) -> tuple[list[bytes], list[StoredItem], bytes]:
        records, stored, chain = [], [], head.chain
        for seq, body in enumerate(bodies, start=head.length + 1):
            item_id = str(body["id"])
            context = _context(keyed, seq, item_id, chain)
            record = seal(keyed.key.subkey("items"), orjson.dumps(body), context)
            records.append(record)
            stored.append(StoredItem(seq, item_id, body))
            chain = _link(keyed, chain, seq, _digest(record))
        return records, stored, chain

    @staticmethod
    def _seal_head(keyed: KeyedObject, head: _Head) -> bytes:
        value = {"length": head.length, "chain": head.chain.hex(), "removed": head.removed}
        return seal_field(keyed.key, keyed.kind, keyed.id, "head", value)

    async def _open_head(self, keyed: KeyedObject, sealed: bytes | None) -> _Head:
        if sealed is None and not await self._redis.exists(record_key(keyed.kind, keyed.id)):
            raise LogGoneError
        return _opened_head(keyed, sealed)


def _opened_head(keyed: KeyedObject, sealed: bytes | None) -> _Head:
    with _damage_told(keyed):
        value = open_field(keyed.key, keyed.kind, keyed.id, "head", sealed)
        return _Head(value["length"], bytes.fromhex(value["chain"]), value["removed"])


def _keys(kind: str, object_id: str) -> list[str]:
    return [record_key(kind, object_id), items_key(kind, object_id), removed_key(kind, object_id)]


def _damage_told(keyed: KeyedObject) -> AbstractContextManager[None]:
    return damage_told(_name(keyed), LogDamagedError)


def _name(keyed: KeyedObject) -> str:
    return f"the items of '{keyed.id}'"


def _must_retry(keyed: KeyedObject, error: ResponseError) -> bool:
    """Whether a script was refused only because another write came first. Raises for the other refusals of ours."""
    kind, _, detail = str(error).partition(" ")
    if kind == "GONE":
        raise LogGoneError from error
    if kind == "LOCKED":
        raise LogLockedError(detail) from error
    if "equal or smaller" in detail:
        # The stream has more entries than the head says.
        raise LogDamagedError(_name(keyed)) from error
    return kind == "STALE"


def _seq(stream_id: bytes) -> int:
    """The number of the item under a stream id. Raises `ValueError` for an id that we do not write."""
    seq, _, rest = stream_id.partition(b"-")
    if rest != b"0":
        raise ValueError("not an id of ours")
    return int(seq)


def _digest(record: bytes) -> bytes:
    return hashlib.sha256(record).digest()


def _link(keyed: KeyedObject, chain: bytes, seq: int, digest: bytes) -> bytes:
    return hmac.new(keyed.key.subkey("chain"), encode_context(chain, seq, digest), hashlib.sha256).digest()


def _context(keyed: KeyedObject, seq: int, item_id: str, chain: bytes) -> bytes:
    return encode_context("item", keyed.key.tenant, keyed.kind, keyed.id, seq, item_id, chain)
