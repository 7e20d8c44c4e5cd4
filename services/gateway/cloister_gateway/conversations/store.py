"""The record of one conversation in Redis. Its items are in `cloister_gateway.storage.items`."""

from contextlib import AbstractContextManager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from cloister_gateway.runs.store import KIND as RESPONSE_KIND
from cloister_gateway.storage import LogGoneError, Owner, damage_told, is_wrong_type, open_field, record_key, seal_field

__all__ = ["KIND", "ConversationStore"]

KIND = "conv"

# A metadata write must not bring a deleted conversation back to life.
_WRITE = (
    "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return 1 end return 0"
)
# KEYS: a response's record, its events. ARGV: the tenant and the conversation that it must say of itself.
_DESTROY = """
local said = redis.pcall('HMGET', KEYS[1], 'tenant', 'conversation')
if said[1] and (said[1] ~= ARGV[1] or (said[2] or ARGV[2]) ~= ARGV[2]) then return 0 end
return redis.call('DEL', KEYS[1], KEYS[2])
"""


class ConversationStore:
    """Reads and writes conversation records."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._write_script = redis.register_script(_WRITE)
        self._destroy_script = redis.register_script(_DESTROY)

    async def create(self, owner: Owner, created: int, metadata: dict[str, str], head: dict[str, bytes | str]) -> None:
        """Makes the record. Durable when this returns."""
        fields: dict[Any, Any] = {
            "tenant": owner.key.tenant,
            "created": seal_field(owner.key, KIND, owner.id, "created", created),
            "metadata": seal_field(owner.key, KIND, owner.id, "metadata", metadata),
            **head,
        }
        await self._redis.hset(record_key(KIND, owner.id), mapping=fields)

    async def tenant(self, conversation_id: str) -> str | None:
        """Whose conversation it is, or None if there is none."""
        with _told(conversation_id):
            tenant: Any = await self._redis.hget(record_key(KIND, conversation_id), "tenant")
        return None if tenant is None else tenant.decode(errors="replace")

    async def read(self, owner: Owner) -> tuple[int, dict[str, str]]:
        """When it was made (Unix seconds) and its metadata."""
        with _told(owner.id):
            values: Any = await self._redis.hmget(record_key(KIND, owner.id), ["tenant", "created", "metadata"])
            tenant, created, sealed = values
            if tenant is None:
                raise LogGoneError
            # The version before left the time unsealed.
            made = int(created) if created and created.isdigit() else _open(owner, "created", created)
            return made, _open(owner, "metadata", sealed)

    async def running(self, owner: Owner) -> str | None:
        """The run that holds the conversation's log."""
        run: Any = await self._redis.hget(record_key(KIND, owner.id), "run")
        return None if run is None else run.decode(errors="replace")

    async def write_metadata(self, owner: Owner, metadata: dict[str, str]) -> None:
        """Replaces the metadata. Raises `LogGoneError` if the conversation was deleted."""
        sealed = seal_field(owner.key, KIND, owner.id, "metadata", metadata)
        if not await self._write_script(keys=[record_key(KIND, owner.id)], args=["metadata", sealed]):
            raise LogGoneError

    async def destroy_responses(self, tenant: str, conversation_id: str) -> None:
        """Removes the records and streams of the conversation's responses, which its key sealed.

        The index names them in the clear: those that say of themselves that they are another's stay.
        """
        index = f"{record_key(KIND, conversation_id)}:responses"
        for response_id in await self._indexed(index):
            key = record_key(RESPONSE_KIND, response_id)
            await self._destroy_script(keys=[key, f"{key}:events"], args=[tenant, conversation_id])
        await self._redis.delete(index)

    async def _indexed(self, index: str) -> list[str]:
        """The ids in an index. One that is no set any more names nothing, and must not keep the rest from going."""
        try:
            members: Any = await self._redis.smembers(index)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            return []
        return [member.decode(errors="replace") for member in members]


def _open(owner: Owner, field: str, sealed: bytes | None) -> Any:
    return open_field(owner.key, KIND, owner.id, field, sealed)


def _told(conversation_id: str) -> AbstractContextManager[None]:
    return damage_told(f"conversation '{conversation_id}'")
