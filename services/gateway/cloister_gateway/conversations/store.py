"""The record of one conversation in Redis. Its items are in `cloister_gateway.storage.items`."""

from contextlib import AbstractContextManager
from typing import Any

from redis.asyncio import Redis

from cloister_gateway.storage import (
    CONVERSATION,
    KeyedObject,
    LogGoneError,
    damage_told,
    open_field,
    record_key,
    seal_field,
)

__all__ = ["ConversationStore"]

# A metadata write must not bring a deleted conversation back to life.
_WRITE = (
    "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return 1 end return 0"
)


class ConversationStore:
    """Reads and writes conversation records."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._write_script = redis.register_script(_WRITE)

    async def create(
        self, keyed: KeyedObject, created: int, metadata: dict[str, str], head: dict[str, bytes | str]
    ) -> None:
        """Makes the record. Durable when this returns."""
        fields: dict[Any, Any] = {
            "tenant": keyed.key.tenant,
            "created": seal_field(keyed.key, CONVERSATION, keyed.id, "created", created),
            "metadata": seal_field(keyed.key, CONVERSATION, keyed.id, "metadata", metadata),
            **head,
        }
        await self._redis.hset(record_key(CONVERSATION, keyed.id), mapping=fields)

    async def tenant(self, conversation_id: str) -> str | None:
        """Whose conversation it is, or None if there is none."""
        with _told(conversation_id):
            tenant: Any = await self._redis.hget(record_key(CONVERSATION, conversation_id), "tenant")
        return None if tenant is None else tenant.decode(errors="replace")

    async def read(self, keyed: KeyedObject) -> tuple[int, dict[str, str]]:
        """When it was made (Unix seconds) and its metadata."""
        with _told(keyed.id):
            values: Any = await self._redis.hmget(record_key(CONVERSATION, keyed.id), ["tenant", "created", "metadata"])
            tenant, created, sealed = values
            if tenant is None:
                raise LogGoneError
            # The version before left the time unsealed.
            made = int(created) if created and created.isdigit() else _open(keyed, "created", created)
            return made, _open(keyed, "metadata", sealed)

    async def write_metadata(self, keyed: KeyedObject, metadata: dict[str, str]) -> None:
        """Replaces the metadata. Raises `LogGoneError` if the conversation was deleted."""
        sealed = seal_field(keyed.key, CONVERSATION, keyed.id, "metadata", metadata)
        if not await self._write_script(keys=[record_key(CONVERSATION, keyed.id)], args=["metadata", sealed]):
            raise LogGoneError


def _open(keyed: KeyedObject, field: str, sealed: bytes | None) -> Any:
    return open_field(keyed.key, CONVERSATION, keyed.id, field, sealed)


def _told(conversation_id: str) -> AbstractContextManager[None]:
    return damage_told(f"conversation '{conversation_id}'")
