"""The sealed event stream of a run, in Redis.

Events are numbered from 0 without gaps. They are appended in groups: one stream entry holds a few events, sealed
together, under the explicit id ``(first number + 1)-0``. Redis refuses an id that is not larger than the last one,
and a deposed holder always writes from a number that is taken, so it is refused without any lock. A group, the fields
of the record that change with it and the word to other gateways are one script: all of them happen, or none.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from cloister_common.vault import encode_context, open_record, seal
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from cloister_gateway.storage import DamagedError, KeyedObject, RecordGoneError, StoreError, damage_told
from cloister_gateway.storage.client import is_cluster, publishing
from cloister_gateway.storage.layout import events_key, record_key, run_channel

__all__ = ["DeposedError", "EventGroup", "EventStream", "StreamDroppedError", "damaged_stream", "sealed_group"]

# KEYS: record, its events. ARGV: entry id, number of events, sealed group, whether it is the last, the channel to wake,
# then names and values of fields of the record. A record that was destroyed must not come back to life.
_APPEND = """
if redis.call('HEXISTS', KEYS[1], 'tenant') == 0 then return redis.error_reply('GONE the record was destroyed') end
redis.call('XADD', KEYS[2], ARGV[1], 'n', ARGV[2], 'd', ARGV[3], 'f', ARGV[4])
if #ARGV > 5 then redis.call('HSET', KEYS[1], unpack(ARGV, 6)) end
redis.call('PUBLISH', ARGV[5], '')
return redis.status_reply('OK')
"""


class DeposedError(StoreError):
    """Another holder has written past this one. Stop: the run is not ours any more."""


class StreamDroppedError(StoreError):
    """The run has ended, and its events are kept no longer: what is left is the response in its record."""


class EventGroup(NamedTuple):
    """Consecutive events as they were appended together."""

    entry_id: bytes
    first: int
    events: list[bytes]
    final: bool


class EventStream:
    """Appends and reads event streams. One instance serves all runs."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._sharded = is_cluster(redis)
        self._append_script = redis.register_script(publishing(redis, _APPEND))

    async def append(
        self,
        keyed: KeyedObject,
        first: int,
        events: list[bytes],
        *,
        final: bool,
        fields: dict[str, bytes] | None = None,
    ) -> None:
        """Appends events ``first …`` durably and wakes other gateways.

        Args:
            keyed: The response.
            first: The number of the first of ``events``.
            events: JSON objects.
            final: Whether the last of them ends the run.
            fields: Fields of the response's record that change together with the stream.

        Raises:
            DeposedError: The place is taken; nothing was written.
            RecordGoneError: The response was destroyed; nothing was written.
        """
        channel = run_channel(keyed.id, sharded=self._sharded)
        arguments: list[Any] = [*sealed_group(keyed, first, events, final=final), channel]
        for name, value in (fields or {}).items():
            arguments += [name, value]
        try:
            await self._append_script(keys=[record_key(keyed.kind, keyed.id), events_key(keyed.id)], args=arguments)
        except ResponseError as error:
            if str(error).startswith("GONE"):
                raise RecordGoneError from error
            if "equal or smaller" in str(error):
                raise DeposedError from error
            raise

    async def read(self, keyed: KeyedObject, after: bytes = b"0-0") -> list[EventGroup]:
        """All groups after the entry ``after``, which was not the last of the run.

        Raises:
            RecordGoneError: The response was destroyed.
            StreamDroppedError: The run has ended and nothing is kept of its stream.
            DamagedError: A group does not open, the last one of an ended run is missing, or the run was given up
                because its record does not open.
        """
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hmget(record_key(keyed.kind, keyed.id), "tenant", "damaged", "done")
            pipeline.xrange(events_key(keyed.id), min=b"(" + after)
            pipeline.exists(events_key(keyed.id))
            with damage_told(damaged_stream(keyed)):
                (tenant, damaged, done), entries, kept = await pipeline.execute()
        if tenant is None:
            raise RecordGoneError
        if damaged is not None:
            raise DamagedError(damaged_stream(keyed))
        with damage_told(damaged_stream(keyed)):
            groups = [_open_group(keyed, entry_id, fields) for entry_id, fields in entries]
        if done is not None and not any(group.final for group in groups):
            # The end of a run and its last group are written as one.
            if kept:
                raise DamagedError(damaged_stream(keyed))
            raise StreamDroppedError
        return groups

    async def watched(self, response_ids: Sequence[str]) -> set[str]:
        """Those of the streams that another gateway follows."""
        channels = {run_channel(run, sharded=self._sharded).encode(): run for run in response_ids}
        counts: Any = await self._redis.pubsub_numsub(*channels)
        return {channels[channel] for channel, count in counts if count > 0}

    async def is_watched(self, response_id: str) -> bool:
        """Whether another gateway follows the stream."""
        return bool(await self.watched([response_id]))

    async def exists(self, response_id: str) -> bool:
        """Whether a run has begun to write, and its stream is kept."""
        return bool(await self._redis.exists(events_key(response_id)))

    async def drop(self, response_id: str) -> None:
        """Removes the stream, once late readers have had their time."""
        await self._redis.delete(events_key(response_id))


def sealed_group(keyed: KeyedObject, first: int, events: list[bytes], *, final: bool) -> list[str | int | bytes]:
    """Events ``first …`` as they lie in the stream: the entry's id, and its fields ``n``, ``d`` and ``f``."""
    record = seal(keyed.key.subkey("stream"), b"\n".join(events), _context(keyed, first, len(events), final=final))
    return [f"{first + 1}-0", len(events), record, int(final)]


def damaged_stream(keyed: KeyedObject) -> str:
    """What a `DamagedError` calls a stream."""
    return f"the events of response '{keyed.id}'"


def _open_group(keyed: KeyedObject, entry_id: bytes, fields: dict[bytes, bytes]) -> EventGroup:
    first, count, final = int(entry_id.split(b"-")[0]) - 1, int(fields[b"n"]), fields[b"f"] == b"1"
    plaintext = open_record(keyed.key.subkey("stream"), fields[b"d"], _context(keyed, first, count, final=final))
    return EventGroup(entry_id, first, plaintext.split(b"\n"), final)


def _context(keyed: KeyedObject, first: int, count: int, *, final: bool) -> bytes:
    return encode_context("events", keyed.key.tenant, keyed.id, first, count, int(final))
