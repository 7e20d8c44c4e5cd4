"""Reading an item log: as much of it as a read needs, checked against the sealed head.

Of a log that is kept opened (`cloister_gateway.storage.opened`) that is the head and what was added since; for the
newest items these and the chain before them; else all of it. How what was read is checked is in
`cloister_gateway.storage.chain`.
"""

from contextlib import AbstractContextManager
from typing import Any

from cloister_common.vault import VaultError
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from cloister_gateway.storage.chain import START, Entry, Head, Hole, StoredItem, follow, open_mark
from cloister_gateway.storage.damage import damage_told
from cloister_gateway.storage.errors import LogDamagedError, LogGoneError
from cloister_gateway.storage.layout import items_key, record_key, removed_key
from cloister_gateway.storage.opened import Opened, StoredLog
from cloister_gateway.storage.records import KeyedObject

__all__ = ["LogReader", "entries_of", "log_damage_told", "log_keys", "log_name"]

_RawEntries = list[tuple[bytes, dict[bytes, bytes]]]


class LogReader:
    """Reads item logs.

    Args:
        redis: Where they lie.
        opened: Keeps whole logs that were read; without it all of a log is read each time.
    """

    def __init__(self, redis: Redis, opened: Opened | None = None) -> None:
        self._redis = redis
        self._opened = opened or Opened(0)

    async def load(self, keyed: KeyedObject) -> list[StoredItem]:
        """All items in order. Raises as `load_log`."""
        return (await self.load_log(keyed)).items

    async def load_log(self, keyed: KeyedObject) -> StoredLog:
        """All items in order, and where items were, after checking the whole chain against the head.

        Raises:
            LogGoneError: There is no such object.
            LogDamagedError: The chain does not hold.
        """
        known: StoredLog | None = self._opened.get(keyed)
        log = None if known is None else await self._gone_on(keyed, known)
        if log is None:
            log = await self._whole(keyed)
        if log is not known:
            self._opened.put(keyed, log, log.size)
        return log

    def ask(self, pipeline: Pipeline, keyed: KeyedObject) -> StoredLog | None:
        """Has a caller's pipeline read, after the head, what a kept log lacks; the kept log for `answered`, or None if
        there is none: then nothing was added to the pipeline."""
        known: StoredLog | None = self._opened.get(keyed)
        if known is not None:
            _ask_what_follows(pipeline, keyed, known)
        return known

    async def answered(
        self, keyed: KeyedObject, known: StoredLog, sealed: bytes | None, stored: Any, found: Any
    ) -> StoredLog | None:
        """The log as `ask` has found it; None where only `load_log` can say what is right."""
        if sealed is None or isinstance(stored, Exception) or isinstance(found, Exception):
            return None
        try:
            log = await self._continued(keyed, known, sealed, stored, found)
        except (LogDamagedError, LogGoneError):
            return None
        if log is not None and log is not known:
            self._opened.put(keyed, log, log.size)
        return log

    async def newest(self, keyed: KeyedObject, count: int) -> StoredLog:
        """The last ``count`` items, or all if there are not as many, checked from the head to the first of them.

        `StoredLog.older` says how many it leaves out. Raises as `load_log`.
        """
        count = max(1, count)
        if self._opened.get(keyed) is not None:
            return (await self.load_log(keyed)).end(count)
        record, items, _ = log_keys(keyed)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(record, "head")
            pipeline.xlen(items)
            pipeline.xrevrange(items, count=count)
            with log_damage_told(keyed):
                sealed, stored, found = await pipeline.execute()
        head = await self._open_head(keyed, sealed)
        with log_damage_told(keyed):
            entries = entries_of(found)
            first = min(entries, default=head.length + 1)
            before = entries[first].before if entries else b""
            if head.holes is None or not before:
                return (await self.load_log(keyed)).end(count)
            log = StoredLog.of(*await self._checked(keyed, head, first, entries, before), head, sealed)
            # As many as the head says: none was taken out of those that are not read either.
            if stored != head.length - head.removed or (log.older and len(entries) < count):
                raise VaultError
            return log

    async def _gone_on(self, keyed: KeyedObject, known: StoredLog) -> StoredLog | None:
        """A kept log as it is now: without what was deleted since, and with what was added.

        None where the store's does not go on from it: then only the store can say what is right.
        """
        record, _, _ = log_keys(keyed)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(record, "head")
            _ask_what_follows(pipeline, keyed, known)
            with log_damage_told(keyed):
                sealed, stored, found = await pipeline.execute()
        return await self._continued(keyed, known, sealed, stored, found)

    async def _continued(
        self, keyed: KeyedObject, known: StoredLog, sealed: Any, stored: int, found: _RawEntries
    ) -> StoredLog | None:
        """`_gone_on`, of what was read: the head, the number of items, and those behind the known ones."""
        if sealed == known.sealed_head and stored == len(known.items) and not found:
            return known
        head = await self._open_head(keyed, sealed)
        if head.holes is None and head.removed == known.head.removed:
            head = head._replace(holes=known.head.holes)
        if head.length < known.head.length or head.holes is None or stored != head.length - head.removed:
            return None
        try:
            with log_damage_told(keyed):
                before = known.head.chain
                added = await self._checked(keyed, head, known.head.length + 1, entries_of(found), before)
        except LogDamagedError:
            return None
        return known.without(head.holes - (known.head.holes or frozenset())).with_added(*added, head, sealed)

    async def _whole(self, keyed: KeyedObject) -> StoredLog:
        record, items, holes = log_keys(keyed)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(record, "head")
            pipeline.xrange(items)
            pipeline.hgetall(holes)
            with log_damage_told(keyed):
                sealed, found, marks = await pipeline.execute()
        head = await self._open_head(keyed, sealed)
        with log_damage_told(keyed):
            left = {int(seq): open_mark(keyed, int(seq), mark) for seq, mark in marks.items()}
            places = _places(entries_of(found), left)
            if len(places) != head.length:
                raise VaultError
            opened = follow(keyed, head, places, before=START)
            return StoredLog.of(*opened, head._replace(holes=frozenset(left)), sealed)

    async def _checked(
        self, keyed: KeyedObject, head: Head, first: int, entries: dict[int, Entry], before: bytes
    ) -> tuple[list[StoredItem], dict[str, int]]:
        """What stands from the place ``first`` to the end, of which ``entries`` were read, and the holes are yet to be.

        Raises what `follow` raises, and `LogGoneError`.
        """
        holes = sorted(seq for seq in head.holes or () if seq >= first)
        marks: list[Any] = []
        if holes:
            record, _, removed = log_keys(keyed)
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.exists(record)
                pipeline.hmget(removed, holes)
                there, marks = await pipeline.execute()
            if not there:
                raise LogGoneError
        left = {seq: open_mark(keyed, seq, mark) for seq, mark in zip(holes, marks, strict=True)}
        places = _places(entries, left)
        if len(places) != head.length - first + 1:
            raise VaultError
        return follow(keyed, head, places, before=before)

    async def _open_head(self, keyed: KeyedObject, sealed: bytes | None) -> Head:
        if sealed is None and not await self._redis.exists(record_key(keyed.kind, keyed.id)):
            raise LogGoneError
        with log_damage_told(keyed):
            return Head.open(keyed, sealed)


def _ask_what_follows(pipeline: Pipeline, keyed: KeyedObject, known: StoredLog) -> None:
    items = log_keys(keyed)[1]
    pipeline.xlen(items)
    pipeline.xrange(items, min=f"{known.head.length + 1}-0")


def log_keys(keyed: KeyedObject) -> list[str]:
    """Where a log lies: the object, its items, and what removed items left."""
    return [make(keyed.kind, keyed.id) for make in (record_key, items_key, removed_key)]


def log_damage_told(keyed: KeyedObject) -> AbstractContextManager[None]:
    """`damage_told` of a log."""
    return damage_told(log_name(keyed), LogDamagedError)


def log_name(keyed: KeyedObject) -> str:
    """What a `LogDamagedError` calls a log."""
    return f"the items of '{keyed.id}'"


def entries_of(found: _RawEntries) -> dict[int, Entry]:
    """Entries by their places. Those of the version before have no chain beside their record."""
    return {
        _seq(stream_id): Entry(fields[b"i"].decode(), fields[b"r"], fields.get(b"c", b""))
        for stream_id, fields in found
    }


def _places(entries: dict[int, Entry], holes: dict[int, Hole]) -> dict[int, Entry | Hole]:
    """What stands where. Raises `VaultError` for an item that is there again after it was deleted."""
    if entries.keys() & holes.keys():
        raise VaultError
    return {**entries, **holes}


def _seq(stream_id: bytes) -> int:
    """The number of the item under a stream id. Raises `ValueError` for an id that we do not write."""
    seq, _, rest = stream_id.partition(b"-")
    if rest != b"0":
        raise ValueError("not an id of ours")
    return int(seq)
