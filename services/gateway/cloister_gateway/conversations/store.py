"""The record of one conversation in Redis. Its items are in `cloister_gateway.storage.items`."""

from typing import Any

from redis.asyncio import Redis

from cloister_gateway.runs.store import KIND as RESPONSE_KIND
from cloister_gateway.storage import LogGoneError, Owner, open_field, record_key, seal_field

__all__ = ["KIND", "ConversationStore"]

KIND = "conv"

# A metadata write must not bring a deleted conversation back to life.
_WRITE = (
    "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return 1 end return 0"
)


class ConversationStore:
    """Reads and writes conversation records."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._write_script = redis.register_script(_WRITE)

    async def create(self, owner: Owner, created: int, metadata: dict[str, str], head: dict[str, bytes | str]) -> None:
        """Makes the record. Durable when this returns."""
        fields: dict[Any, Any] = {
            "tenant": owner.key.tenant,
            "created": created,
            "metadata": seal_field(owner.key, KIND, owner.id, "metadata", metadata),
            **head,
        }
        await self._redis.hset(record_key(KIND, owner.id), mapping=fields)

    async def tenant(self, conversation_id: str) -> str | None:
        """Whose conversation it is, or None if there is none."""
        tenant: Any = await self._redis.hget(record_key(KIND, conversation_id), "tenant")
        return None if tenant is None else tenant.decode()

    async def read(self, owner: Owner) -> tuple[int, dict[str, str]]:
        """When it was made (Unix seconds) and its metadata."""
        values: Any = await self._redis.hmget(record_key(KIND, owner.id), ["created", "metadata"])
        created, sealed = values
        if created is None:
            raise LogGoneError
        return int(created), open_field(owner.key, KIND, owner.id, "metadata", sealed)

    async def running(self, owner: Owner) -> str | None:
        """The run that holds the conversation's log."""
        run: Any = await self._redis.hget(record_key(KIND, owner.id), "run")
        return None if run is None else run.decode()

    async def write_metadata(self, owner: Owner, metadata: dict[str, str]) -> None:
        """Replaces the metadata. Raises `LogGoneError` if the conversation was deleted."""
        sealed = seal_field(owner.key, KIND, owner.id, "metadata", metadata)
        if not await self._write_script(keys=[record_key(KIND, owner.id)], args=["metadata", sealed]):
            raise LogGoneError

    async def destroy_responses(self, conversation_id: str) -> None:
        """Removes the records and streams of the conversation's responses, which its key sealed."""
        index = f"{record_key(KIND, conversation_id)}:responses"
        members: Any = await self._redis.smembers(index)
        for response_id in members:
            key = record_key(RESPONSE_KIND, response_id.decode())
            await self._redis.delete(key, f"{key}:events")
        await self._redis.delete(index)
