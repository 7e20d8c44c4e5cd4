"""Batches in Redis. Only this file of this domain speaks to it.

Whoever works on a batch holds its lease, and each of its writes names the holder in the very step that writes: one who
was deposed changes nothing. A line's result is written once under its number, and none any more once the files are
being written: what was sent before a batch was cancelled may arrive late.
"""

import time
import zlib
from collections.abc import AsyncIterator, Collection
from typing import Any, NamedTuple, cast

import orjson
from cloister_common.errors import InvalidRequest
from cloister_common.vault import Keyring, encode_context, open_record, seal
from redis.asyncio import Redis

from cloister_gateway.batches.records import RECORD, STATE, BatchRecord, BatchState, LineResult, StoredBatch
from cloister_gateway.storage import KeyedObject, damage_told, record_key
from cloister_gateway.storage.layout import (
    BATCH,
    batch_lines_key,
    batch_moved_key,
    batch_parts_key,
    batches_key,
    lease_key,
)

__all__ = ["BatchStore", "DeposedError", "Header", "Held"]

_RESULTS_A_READ = 64
_FASTEST = 1

# KEYS: lease, record, lines, moved. ARGV: holder, number, sealed result, the count it belongs to. A line that lies in a
# part has its result there. Says how many results lie here, and their bytes.
_ADD = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('HGET', KEYS[2], 'stage') ~= 'open' then return {-1, 0} end
local held = 0
if redis.call('GETBIT', KEYS[4], ARGV[2]) == 0 and redis.call('HSETNX', KEYS[3], ARGV[2], ARGV[3]) == 1 then
  redis.call('HINCRBY', KEYS[2], ARGV[4], 1)
  held = #ARGV[3]
end
return {redis.call('HLEN', KEYS[3]), redis.call('HINCRBY', KEYS[2], 'held', held)}
"""
# KEYS: lease, record, parts. ARGV: holder, part. Noted before it is written: whoever ends the batch knows of it.
_BEGIN_PART = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('HGET', KEYS[2], 'stage') ~= 'open' then return -1 end
redis.call('HSET', KEYS[2], 'parted', 1)
return redis.call('HSETNX', KEYS[3], ARGV[2], '')
"""
# KEYS: lease, record, parts, lines, moved. ARGV: holder, part, its lines as the reader has them, their bytes, then
# their numbers. From here on the part has them. Done again it changes nothing. (What the version before wrote, nobody
# counted in 'held'.)
_MOVE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('HGET', KEYS[2], 'stage') ~= 'open' then return -1 end
if redis.call('HGET', KEYS[3], ARGV[2]) == ARGV[3] then return 0 end
redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
for i = 5, #ARGV do
  redis.call('SETBIT', KEYS[5], ARGV[i], 1)
  redis.call('HDEL', KEYS[4], ARGV[i])
end
if redis.call('HINCRBY', KEYS[2], 'held', -tonumber(ARGV[4])) < 0 then redis.call('HSET', KEYS[2], 'held', 0) end
return 0
"""
# KEYS: lease, record. ARGV: holder, sealed state, stage, then how many have ended how, where the state goes by that.
_WRITE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 0 then return -1 end
local found = redis.call('HMGET', KEYS[2], 'completed', 'failed')
if ARGV[4] and (ARGV[4] ~= (found[1] or '0') or ARGV[5] ~= (found[2] or '0')) then return 0 end
redis.call('HSET', KEYS[2], 'state', ARGV[2], 'stage', ARGV[3])
return 1
"""
# KEYS: record. ARGV: when. Says the stage that it found.
_CANCEL = """
local stage = redis.call('HGET', KEYS[1], 'stage')
if stage == 'open' then redis.call('HSETNX', KEYS[1], 'cancel', ARGV[1]) end
return stage
"""


class DeposedError(Exception):
    """Somebody else works on the batch now, or it is gone, or has no more results."""


class Header(NamedTuple):
    """What Redis says of a batch in the clear; ``parted`` is whether any part of its results was ever begun."""

    id: str
    tenant: str
    cancelled: bool
    ended: bool
    parted: bool


class Held(NamedTuple):
    """How many results of a batch lie in Redis, and their bytes."""

    lines: int
    bytes: int


class BatchStore:
    """Reads and writes batches.

    Args:
        redis: Where they lie.
        keyring: Each has a key of its own.
    """

    def __init__(self, redis: Redis, keyring: Keyring) -> None:
        self._redis = redis
        self._keyring = keyring
        self._add_script = redis.register_script(_ADD)
        self._begin_part_script = redis.register_script(_BEGIN_PART)
        self._move_script = redis.register_script(_MOVE)
        self._write_script = redis.register_script(_WRITE)
        self._cancel_script = redis.register_script(_CANCEL)

    async def create(self, tenant: str, batch_id: str, record: BatchRecord) -> KeyedObject:
        """Makes a batch. It is durable, and on the list of its project, when this returns."""
        keyed = KeyedObject(BATCH, batch_id, await self._keyring.create(tenant, BATCH, batch_id))
        fields: dict[Any, Any] = {
            "tenant": tenant,
            "stage": BatchState().stage,
            "record": RECORD.seal(keyed, record),
            "state": STATE.seal(keyed, BatchState()),
        }
        # The list first: what is on it and is no more is passed over.
        await self._redis.zadd(batches_key(tenant), {batch_id: time.time_ns() / 1e3})
        await self._redis.hset(record_key(BATCH, batch_id), mapping=fields)
        return keyed

    async def header(self, batch_id: str) -> Header | None:
        """What stands there in the clear; None if there is no such batch."""
        wanted = ["tenant", "cancel", "stage", "parted"]
        # redis-py types its asynchronous hash commands as value or awaitable.
        said: Any = await cast("Any", self._redis.hmget(record_key(BATCH, batch_id), wanted))
        tenant, cancel, stage, parted = said
        if tenant is None:
            return None
        name = tenant.decode(errors="replace")
        return Header(batch_id, name, cancel is not None, stage == b"ended", parted is not None)

    async def keyed(self, header: Header) -> KeyedObject | None:
        """The batch with its key; None if that is gone."""
        with damage_told(f"the key of batch '{header.id}'"):
            key = await self._keyring.get(header.tenant, BATCH, header.id)
        return None if key is None else KeyedObject(BATCH, header.id, key)

    async def read(self, keyed: KeyedObject) -> StoredBatch | None:
        """The batch as it stands; None if it is gone.

        Raises:
            DamagedError: It is not what was written.
        """
        with damage_told(f"batch '{keyed.id}'"):
            wanted = ["record", "state", "cancel", "completed", "failed"]
            found: Any = await cast("Any", self._redis.hmget(record_key(BATCH, keyed.id), wanted))
            record, state, cancel, completed, failed = found
            if record is None and state is None:
                return None
            return StoredBatch(
                keyed.id,
                RECORD.open(keyed, record),
                STATE.open(keyed, state),
                None if cancel is None else int(cancel),
                int(completed or 0),
                int(failed or 0),
            )

    async def write(self, keyed: KeyedObject, holder: str, state: BatchState, counted: tuple[int, ...] = ()) -> bool:
        """Replaces the state. Raises `DeposedError` unless ``holder`` has the lease.

        Args:
            counted: How many lines were answered and how many were not, where the state goes by that.

        Returns:
            Whether it did: not where there are other results by now.
        """
        arguments: list[Any] = [holder, STATE.seal(keyed, state), state.stage, *counted]
        written = int(await self._write_script(keys=_fence(keyed), args=arguments))
        if written < 0:
            raise DeposedError
        return written == 1

    async def cancel(self, batch_id: str) -> bool:
        """Notes that the batch is to be cancelled; says whether it is not too late for that."""
        stage = await self._cancel_script(keys=[record_key(BATCH, batch_id)], args=[int(time.time())])
        return bool(stage == b"open")

    async def add_result(self, keyed: KeyedObject, holder: str, number: int, result: LineResult) -> Held:
        """Writes what became of a line. If that was written before, what stands there stays.

        Raises:
            DeposedError: ``holder`` has not the lease.
        """
        plain = orjson.dumps({"answered": result.answered, "used": result.used}) + b"\n" + result.line
        sealed = seal(keyed.key.subkey("lines"), zlib.compress(plain, _FASTEST), _context(keyed, number))
        keys = [*_fence(keyed), batch_lines_key(keyed.id), batch_moved_key(keyed.id)]
        counted = "completed" if result.answered else "failed"
        held = Held(*await self._add_script(keys=keys, args=[holder, number, sealed, counted]))
        if held.lines < 0:
            raise DeposedError
        return held

    def open_result(self, keyed: KeyedObject, number: int, sealed: bytes | None) -> LineResult:
        """A result as it was before it was sealed.

        Raises:
            DamagedError: It is not what was written, or is not there.
        """
        with damage_told(f"line {number} of batch '{keyed.id}'"):
            plain = open_record(keyed.key.subkey("lines"), sealed or b"", _context(keyed, number))
            head, _, line = zlib.decompress(plain).partition(b"\n")
            said = orjson.loads(head)
            return LineResult(said["answered"], line, tuple(said["used"]))

    async def here(self, batch_id: str) -> set[int]:
        """The numbers of the lines whose results lie in Redis."""
        found: Any = await cast("Any", self._redis.hkeys(batch_lines_key(batch_id)))
        return {int(number) for number in found}

    async def sealed(self, batch_id: str, numbers: Collection[int]) -> AsyncIterator[tuple[int, bytes | None]]:
        """The sealed results of these lines, in the order of their numbers, as far as they lie in Redis."""
        ordered = sorted(numbers)
        for begin in range(0, len(ordered), _RESULTS_A_READ):
            part = ordered[begin : begin + _RESULTS_A_READ]
            found: Any = await cast("Any", self._redis.hmget(batch_lines_key(batch_id), [str(one) for one in part]))
            for number, sealed in zip(part, found, strict=True):
                yield number, sealed

    async def parts(self, batch_id: str) -> dict[str, bytes]:
        """The parts of the results that lie in the retriever, and their lines as they were noted; b"" of one that was
        begun and has none.
        """
        found: Any = await cast("Any", self._redis.hgetall(batch_parts_key(batch_id)))
        return {part.decode(): lines for part, lines in found.items()}

    async def begin_part(self, keyed: KeyedObject, holder: str, part_id: str) -> None:
        """Notes that a part is about to be written. Raises `DeposedError` unless ``holder`` has the lease."""
        keys = [*_fence(keyed), batch_parts_key(keyed.id)]
        if await self._begin_part_script(keys=keys, args=[holder, part_id]) < 0:
            raise DeposedError

    async def move(
        self, keyed: KeyedObject, holder: str, part_id: str, lines: bytes, numbers: Collection[int], size: int
    ) -> None:
        """Notes that a part has the results of ``numbers``, ``lines`` as `parts` tells them, and removes these here.

        Raises:
            DeposedError: ``holder`` has not the lease.
        """
        keys = [*_fence(keyed), batch_parts_key(keyed.id), batch_lines_key(keyed.id), batch_moved_key(keyed.id)]
        if await self._move_script(keys=keys, args=[holder, part_id, lines, size, *numbers]) < 0:
            raise DeposedError

    async def page(self, tenant: str, *, after: str | None, limit: int) -> tuple[list[StoredBatch], bool]:
        """The batches of a project behind ``after``, newest first, and whether there are more.

        Raises:
            InvalidRequest: ``after`` names none of them.
        """
        key = batches_key(tenant)
        first = 0
        if after is not None:
            place: Any = await self._redis.zrevrank(key, after)
            if place is None:
                raise InvalidRequest("'after' names no item of this list.", param="after")
            first = int(place) + 1
        found: list[StoredBatch] = []
        while len(found) <= limit:
            names: Any = await self._redis.zrevrange(key, first, first + limit)
            if not names:
                break
            first += len(names)
            found += [batch for name in names if (batch := await self._find(tenant, name.decode())) is not None]
        return found[:limit], len(found) > limit

    async def _find(self, tenant: str, batch_id: str) -> StoredBatch | None:
        header = await self.header(batch_id)
        keyed = None if header is None or header.tenant != tenant else await self.keyed(header)
        return None if keyed is None else await self.read(keyed)

    async def drop_results(self, batch_id: str) -> None:
        """Removes the results, once they are in files."""
        await self._redis.unlink(batch_lines_key(batch_id), batch_parts_key(batch_id), batch_moved_key(batch_id))

    async def destroy(self, header: Header) -> None:
        """Destroys a batch's key, then removes what is left of it."""
        await self._keyring.destroy(header.tenant, BATCH, header.id)
        await self.drop_results(header.id)
        await self._redis.zrem(batches_key(header.tenant), header.id)
        await self._redis.unlink(record_key(BATCH, header.id))


def _fence(keyed: KeyedObject) -> list[str]:
    """The keys that each script looks at first: whose batch it is, and whether it is there."""
    return [lease_key(keyed.id, BATCH), record_key(BATCH, keyed.id)]


def _context(keyed: KeyedObject, number: int) -> bytes:
    return encode_context("batch-line", keyed.key.tenant, keyed.id, str(number))
