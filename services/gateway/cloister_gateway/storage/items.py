"""The item log of a conversation: a Redis Stream of sealed records, chained, with a sealed head.

Item number ``seq`` (from 1) is stored under the explicit stream id ``seq-0``; Redis refuses an id that is not larger
than the last, so two writers can never both take a place. What is sealed of it, and how what is read is checked, is in
`cloister_gateway.storage.chain`. A deleted item leaves its digest and its id, sealed, so that the chain can still be
followed over the hole it left, and a list can be read on from there; the head names the holes, so that none can be
added or filled again. Every write replaces the very head it was made from.

What is asked of the store for a read is no more than that needs: of a log that is kept opened
(`cloister_gateway.storage.opened`) the head and what was added since; for the newest items these and the chain before
them; else all of it.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from cloister_common.vault import VaultError
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from cloister_gateway.storage.chain import (
    START,
    Addition,
    Entry,
    Head,
    Hole,
    StoredItem,
    follow,
    open_mark,
    seal_items,
    seal_mark,
)
from cloister_gateway.storage.damage import damage_told
from cloister_gateway.storage.errors import LogDamagedError, LogGoneError, LogLockedError
from cloister_gateway.storage.layout import items_key, record_key, removed_key
from cloister_gateway.storage.opened import Opened, StoredLog
from cloister_gateway.storage.records import KeyedObject

__all__ = ["ItemLog", "PreparedItems", "must_retry"]

# KEYS: object, its items. ARGV: run that writes ("" for none), run that holds the log afterwards, the head to replace,
# the new head, the first item's number, then item id, record and the chain before it for each item.
_APPEND = """
local head = redis.call('HGET', KEYS[1], 'head')
if not head then return redis.error_reply('GONE the object was deleted') end
local holder = redis.call('HGET', KEYS[1], 'run') or ''
if holder ~= ARGV[1] then return redis.error_reply('LOCKED ' .. holder) end
if head ~= ARGV[3] then return redis.error_reply('STALE the log moved on') end
for i = 6, #ARGV, 3 do
  local id = string.format('%d-0', tonumber(ARGV[5]) + (i - 6) / 3)
  redis.call('XADD', KEYS[2], id, 'i', ARGV[i], 'r', ARGV[i + 1], 'c', ARGV[i + 2])
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


_RawEntries = list[tuple[bytes, dict[bytes, bytes]]]


class PreparedItems(NamedTuple):
    """Items sealed for the end of a log, and the head they were sealed behind. They are written by a script that sets
    the head in the place of that one only; else they are of no use.

    Attributes:
        old_head: The head that must lie there.
        new_head: The head with them.
        addition: What is written of each.
    """

    old_head: bytes
    new_head: bytes
    addition: Addition


class ItemLog:
    """Reads and appends item logs. One instance serves all conversations.

    Args:
        redis: Where they lie.
        opened: Keeps whole logs that were read; without it all of a log is read each time.
    """

    def __init__(self, redis: Redis, opened: Opened | None = None) -> None:
        self._redis = redis
        self._opened = opened or Opened(0)
        self._append_script = redis.register_script(_APPEND)
        self._remove_script = redis.register_script(_REMOVE)
        self._free_script = redis.register_script(_FREE)

    def new_head(self, keyed: KeyedObject) -> dict[str, bytes | str]:
        """The hash fields of an empty log, to be written when the object is created."""
        return {"head": Head().seal(keyed)}

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
        record, items, _ = _keys(keyed)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(record, "head")
            pipeline.xlen(items)
            pipeline.xrevrange(items, count=count)
            with _damage_told(keyed):
                sealed, stored, found = await pipeline.execute()
        head = await self._open_head(keyed, sealed)
        with _damage_told(keyed):
            entries = _entries(found)
            first = min(entries, default=head.length + 1)
            before = entries[first].before if entries else b""
            if head.holes is None or not before:
                return (await self.load_log(keyed)).end(count)
            log = StoredLog.of(*await self._checked(keyed, head, first, entries, before), head, sealed)
            # As many as the head says: none was taken out of those that are not read either.
            if stored != head.length - head.removed or (log.older and len(entries) < count):
                raise VaultError
            return log

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
        prepared = await self.prepare(keyed, bodies)
        while True:
            arguments = [run, hold_for, prepared.old_head, prepared.new_head, *prepared.addition.arguments()]
            try:
                with _damage_told(keyed):
                    await self._append_script(keys=_keys(keyed)[:2], args=arguments)
            except ResponseError as error:
                if not must_retry(keyed, error):
                    raise
                prepared = await self.prepare(keyed, bodies, anew=True)
                continue
            self.written(keyed, prepared)
            return prepared.addition.items

    async def prepare(
        self, keyed: KeyedObject, bodies: Sequence[dict[str, Any]], *, anew: bool = False
    ) -> PreparedItems:
        """Seals items (each with its ``id``) for the end of the log, for a script that writes other things with them.

        Whoever has written them says so (`written`). Where the head is another by then (`must_retry`), they are
        prepared ``anew``, from the head that the store has: else that of the log that is kept may do, unasked.

        Raises:
            LogGoneError, LogDamagedError: There is no head to seal them behind.
        """
        known: StoredLog | None = None if anew else self._opened.get(keyed)
        sealed: Any
        if known is not None:
            sealed = known.sealed_head
        else:
            with _damage_told(keyed):
                sealed = await self._redis.hget(_keys(keyed)[0], "head")
            if sealed is None and not await self._redis.exists(_keys(keyed)[0]):
                raise LogGoneError
        return self.prepare_behind(keyed, bodies, sealed)

    def prepare_behind(
        self, keyed: KeyedObject, bodies: Sequence[dict[str, Any]], sealed: bytes | None
    ) -> PreparedItems:
        """`prepare` behind a head that the caller has read. Raises `LogDamagedError` if it does not open."""
        known = self._opened.get(keyed)
        if known is not None and known.sealed_head == sealed:
            head = known.head
        else:
            with _damage_told(keyed):
                head = Head.open(keyed, sealed)
        addition = seal_items(keyed, bodies, head)
        return PreparedItems(sealed or b"", addition.head.seal(keyed), addition)

    def written(self, keyed: KeyedObject, prepared: PreparedItems) -> None:
        """Notes that prepared items are in the store: the next reader need not open them."""
        known: StoredLog | None = self._opened.get(keyed)
        if prepared.addition.first == 1:
            known = StoredLog.of([], {}, Head(), prepared.old_head)
        if known is not None and known.sealed_head == prepared.old_head:
            addition = prepared.addition
            log = known.with_added(addition.items, {}, addition.head, prepared.new_head)
            self._opened.put(keyed, log, log.size)

    async def remove(self, keyed: KeyedObject, item_id: str) -> bool:
        """Deletes an item's record, leaving its sealed digest for the chain. False if there is no such item.

        Raises:
            LogGoneError, LogDamagedError: Nothing was written.
        """
        record, items, _ = keys = _keys(keyed)
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
            with _damage_told(keyed):
                ((seq, entry),) = _entries([found]).items()
            arguments: list[Any] = [sealed_head, head.without(seq).seal(keyed), found[0], seq]
            try:
                with _damage_told(keyed):
                    await self._remove_script(keys=keys, args=[*arguments, seal_mark(keyed, seq, entry)])
            except ResponseError as error:
                if must_retry(keyed, error):
                    continue
                raise
            return True

    async def holder(self, owner_kind: str, owner_id: str) -> str | None:
        """The run that holds the object's log."""
        run: Any = await self._redis.hget(record_key(owner_kind, owner_id), "run")
        return None if run is None else run.decode(errors="replace")

    async def free(self, owner_kind: str, owner_id: str, run: str) -> bool:
        """Sets the object's log free of a run that will never write again; says whether that run held it."""
        return bool(await self._free_script(keys=[record_key(owner_kind, owner_id)], args=[run]))

    async def destroy(self, owner_kind: str, owner_id: str) -> None:
        """Removes the object's hash and log. (The caller destroys the data key.)"""
        names = [make(owner_kind, owner_id) for make in (record_key, items_key, removed_key)]
        await self._redis.delete(*names)

    async def _gone_on(self, keyed: KeyedObject, known: StoredLog) -> StoredLog | None:
        """A kept log as it is now: without what was deleted since, and with what was added.

        None where the store's does not go on from it: then only the store can say what is right.
        """
        record, _, _ = _keys(keyed)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(record, "head")
            _ask_what_follows(pipeline, keyed, known)
            with _damage_told(keyed):
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
            with _damage_told(keyed):
                before = known.head.chain
                added = await self._checked(keyed, head, known.head.length + 1, _entries(found), before)
        except LogDamagedError:
            return None
        return known.without(head.holes - (known.head.holes or frozenset())).with_added(*added, head, sealed)

    async def _whole(self, keyed: KeyedObject) -> StoredLog:
        record, items, holes = _keys(keyed)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(record, "head")
            pipeline.xrange(items)
            pipeline.hgetall(holes)
            with _damage_told(keyed):
                sealed, found, marks = await pipeline.execute()
        head = await self._open_head(keyed, sealed)
        with _damage_told(keyed):
            left = {int(seq): open_mark(keyed, int(seq), mark) for seq, mark in marks.items()}
            places = _places(_entries(found), left)
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
            record, _, removed = _keys(keyed)
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
        with _damage_told(keyed):
            return Head.open(keyed, sealed)


def _ask_what_follows(pipeline: Pipeline, keyed: KeyedObject, known: StoredLog) -> None:
    items = _keys(keyed)[1]
    pipeline.xlen(items)
    pipeline.xrange(items, min=f"{known.head.length + 1}-0")


def must_retry(keyed: KeyedObject, error: ResponseError) -> bool:
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


def _keys(keyed: KeyedObject) -> list[str]:
    return [make(keyed.kind, keyed.id) for make in (record_key, items_key, removed_key)]


def _damage_told(keyed: KeyedObject) -> AbstractContextManager[None]:
    return damage_told(_name(keyed), LogDamagedError)


def _name(keyed: KeyedObject) -> str:
    return f"the items of '{keyed.id}'"


def _entries(found: _RawEntries) -> dict[int, Entry]:
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
