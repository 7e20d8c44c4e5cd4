"""The sealed event stream of a run, in Redis.

Events are numbered from 0 without gaps. They are appended in groups: one stream entry holds a few events, sealed
together, under the explicit id ``(first number + 1)-0``. Redis refuses an id that is not larger than the last one,
and a deposed owner always writes from a number that is taken, so it is refused without any lock.
"""

from typing import Any, NamedTuple

from cloister_common.vault import encode_context, open_record, seal
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from cloister_gateway.state import Owner, record_key

__all__ = ["DeposedError", "EventGroup", "EventStream", "wake_channel"]


class DeposedError(Exception):
    """Another owner has written past this one. Stop: the run is not ours any more."""


class EventGroup(NamedTuple):
    """Consecutive events as they were appended together."""

    entry_id: bytes
    first: int
    events: list[bytes]
    final: bool


def wake_channel(response_id: str) -> str:
    """The pub/sub channel that says "there is more to read". It never carries content: pub/sub may lose messages."""
    return f"run:{response_id}"


class EventStream:
    """Appends and reads event streams. One instance serves all runs."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def append(
        self, owner: Owner, first: int, events: list[bytes], *, final: bool, fields: dict[str, bytes] | None = None
    ) -> int:
        """Appends events ``first …`` durably and wakes other gateways.

        Args:
            owner: The response.
            first: The number of the first of ``events``.
            events: JSON objects.
            final: Whether the last of them ends the run.
            fields: Hash fields of the response that change together with the end of the stream.

        Returns:
            How many other gateways watch.

        Raises:
            DeposedError: The place is taken; nothing was written.
        """
        record = seal(owner.key.subkey("stream"), b"\n".join(events), _context(owner, first, len(events), final=final))
        entry: dict[Any, Any] = {"n": len(events), "d": record, "f": int(final)}
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xadd(self._key(owner), entry, id=f"{first + 1}-0")
            pipeline.publish(wake_channel(owner.id), b"")
            added, receivers = await pipeline.execute(raise_on_error=False)
        if isinstance(added, ResponseError):
            if "equal or smaller" in str(added):
                raise DeposedError from added
            raise added
        if isinstance(added, Exception):
            raise added
        if fields:
            await self._redis.hset(record_key(owner.kind, owner.id), mapping=fields)  # type: ignore[arg-type] # redis-py's mapping type is invariant
        return int(receivers) if not isinstance(receivers, Exception) else 0

    async def read(self, owner: Owner, after: bytes = b"0-0") -> list[EventGroup]:
        """All groups after the entry ``after``. Raises `VaultError` if one does not open."""
        entries: Any = await self._redis.xrange(self._key(owner), min=b"(" + after)
        groups = []
        for entry_id, fields in entries:
            first, count, final = int(entry_id.split(b"-")[0]) - 1, int(fields[b"n"]), fields[b"f"] == b"1"
            plaintext = open_record(
                owner.key.subkey("stream"), fields[b"d"], _context(owner, first, count, final=final)
            )
            groups.append(EventGroup(entry_id, first, plaintext.split(b"\n"), final))
        return groups

    async def drop(self, owner_kind: str, response_id: str) -> None:
        """Removes the stream, once late readers have had their time."""
        await self._redis.delete(f"{record_key(owner_kind, response_id)}:events")

    def _key(self, owner: Owner) -> str:
        return f"{record_key(owner.kind, owner.id)}:events"


def _context(owner: Owner, first: int, count: int, *, final: bool) -> bytes:
    return encode_context("events", owner.key.tenant, owner.id, first, count, int(final))
