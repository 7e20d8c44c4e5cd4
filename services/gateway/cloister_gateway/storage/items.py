"""The item log of a conversation: a Redis Stream of sealed records, chained, with a sealed head.

Item number ``seq`` (from 1) is stored under the explicit stream id ``seq-0``; Redis refuses an id that is not larger
than the last, so two writers can never both take a place. What is sealed of it, and how what is read is checked, is in
`cloister_gateway.storage.chain`. A deleted item leaves its digest and its id, sealed, so that the chain can still be
followed over the hole it left, and a list can be read on from there; the head names the holes, so that none can be
added or filled again. Every write replaces the very head it was made from.

How a log is read is in `cloister_gateway.storage.reading`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from cloister_gateway.storage.chain import Addition, Head, StoredItem, seal_items, seal_mark
from cloister_gateway.storage.errors import LogDamagedError, LogGoneError, LogLockedError
from cloister_gateway.storage.layout import items_key, record_key, removed_key
from cloister_gateway.storage.opened import Opened, StoredLog
from cloister_gateway.storage.reading import LogReader, entries_of, log_damage_told, log_keys, log_name
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


class ItemLog(LogReader):
    """Reads and writes item logs. One instance serves all conversations.

    Args:
        redis: Where they lie.
        opened: Keeps whole logs that were read; without it all of a log is read each time.
    """

    def __init__(self, redis: Redis, opened: Opened | None = None) -> None:
        super().__init__(redis, opened)
        self._append_script = redis.register_script(_APPEND)
        self._remove_script = redis.register_script(_REMOVE)
        self._free_script = redis.register_script(_FREE)

    def new_head(self, keyed: KeyedObject) -> dict[str, bytes | str]:
        """The hash fields of an empty log, to be written when the object is created."""
        return {"head": Head().seal(keyed)}

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
                with log_damage_told(keyed):
                    await self._append_script(keys=log_keys(keyed)[:2], args=arguments)
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
            with log_damage_told(keyed):
                sealed = await self._redis.hget(log_keys(keyed)[0], "head")
            if sealed is None and not await self._redis.exists(log_keys(keyed)[0]):
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
            with log_damage_told(keyed):
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
        record, items, _ = keys = log_keys(keyed)
        while True:
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hget(record, "head")
                pipeline.xrange(items)
                with log_damage_told(keyed):
                    sealed_head, entries = await pipeline.execute()
            head = await self._open_head(keyed, sealed_head)
            found = next((entry for entry in entries if entry[1].get(b"i") == item_id.encode()), None)
            if found is None:
                return False
            with log_damage_told(keyed):
                ((seq, entry),) = entries_of([found]).items()
            arguments: list[Any] = [sealed_head, head.without(seq).seal(keyed), found[0], seq]
            try:
                with log_damage_told(keyed):
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


def must_retry(keyed: KeyedObject, error: ResponseError) -> bool:
    """Whether a script was refused only because another write came first. Raises for the other refusals of ours."""
    kind, _, detail = str(error).partition(" ")
    if kind == "GONE":
        raise LogGoneError from error
    if kind == "LOCKED":
        raise LogLockedError(detail) from error
    if "equal or smaller" in detail:
        # The stream has more entries than the head says.
        raise LogDamagedError(log_name(keyed)) from error
    return kind == "STALE"
