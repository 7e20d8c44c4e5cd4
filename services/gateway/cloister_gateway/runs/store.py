"""The record of one response in Redis: a few ids and times in the clear, everything said in it sealed.

A response that belongs to a conversation is sealed with the conversation's key, so that deleting the conversation
makes its responses unreadable too; any other has a key of its own.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

from cloister_common.vault import Keyring
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from cloister_gateway.runs.records import BODY, FOUND, OUTCOME, PROMPT, REQUEST, RESULTS, TurnRequest
from cloister_gateway.storage import KeyedObject, RecordGoneError, SealedField, damage_told, is_wrong_type
from cloister_gateway.storage.client import is_cluster
from cloister_gateway.storage.layout import CONVERSATION, RESPONSE, events_key, record_key, responses_key
from cloister_gateway.storage.slots import in_one_slot
from cloister_gateway.wire.items import ResponseBody, SearchResult

__all__ = ["Header", "ResponseStore", "new_fields"]

T = TypeVar("T")

# No write may bring a destroyed record back to life. KEYS: record. ARGV: names and values of fields.
_WRITE = "if redis.call('HEXISTS', KEYS[1], 'tenant') == 1 then redis.call('HSET', KEYS[1], unpack(ARGV)) end return 0"
# KEYS: record. ARGV: a field and its value. Returns what stands there now, or nothing if there is no record.
_WRITE_ONCE = """
if redis.call('HEXISTS', KEYS[1], 'tenant') == 0 then return false end
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGET', KEYS[1], ARGV[1])
"""
# KEYS: record. Counts how often the run was taken over; a count that is none begins anew.
_COUNT = """
if redis.call('HEXISTS', KEYS[1], 'tenant') == 0 then return 0 end
local taken = (tonumber(redis.call('HGET', KEYS[1], 'taken') or '') or 0) + 1
redis.call('HSET', KEYS[1], 'taken', taken)
return taken
"""
# KEYS: a response's record, its events. ARGV: the tenant and the conversation that it must say of itself.
_DESTROY = """
local said = redis.pcall('HMGET', KEYS[1], 'tenant', 'conversation')
if said[1] and (said[1] ~= ARGV[1] or (said[2] or ARGV[2]) ~= ARGV[2]) then return 0 end
return redis.call('DEL', KEYS[1], KEYS[2])
"""
_CLEAR = ("tenant", "conversation", "stored", "background", "done")


class Header(NamedTuple):
    """What a record says in the clear. ``whole`` is False if it does not say all of it: then it is damaged."""

    id: str
    tenant: str
    conversation: str
    stored: bool
    background: bool
    done: bool
    whole: bool = True


class ResponseStore:
    """Reads and writes response records.

    Attributes:
        redis: Where they lie, for what is written in one step with them.
    """

    def __init__(self, redis: Redis, keyring: Keyring) -> None:
        self.redis = redis
        self._keyring = keyring
        self._write_script = redis.register_script(_WRITE)
        self._write_once_script = redis.register_script(_WRITE_ONCE)
        self._count_script = redis.register_script(_COUNT)
        self._destroy_script = redis.register_script(_DESTROY)

    async def create(self, header: Header, *, body: ResponseBody, request: TurnRequest) -> KeyedObject:
        """Makes the record and, outside of a conversation, its key, of a response that nobody runs.

        Turns are accepted in one write, by `cloister_gateway.runs.acceptance`. Durable when this returns.
        """
        if header.conversation:
            key = await self._keyring.get(header.tenant, CONVERSATION, header.conversation)
            if key is None:
                raise KeyError(header.conversation)
        else:
            key = await self._keyring.create(header.tenant, RESPONSE, header.id)
        keyed = KeyedObject(RESPONSE, header.id, key)
        fields: dict[Any, Any] = dict(new_fields(header, keyed, body, request))
        async with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.hset(record_key(RESPONSE, header.id), mapping=fields)
            if header.conversation:
                pipeline.sadd(responses_key(header.conversation), header.id)
            await pipeline.execute()
        return keyed

    async def header(self, response_id: str) -> Header | None:
        """What the record says in the clear, or None if there is none."""
        return (await self.headers([response_id]))[0]

    async def headers(self, response_ids: Sequence[str]) -> list[Header | None]:
        """What many records say in the clear, in one round trip."""
        async with self.redis.pipeline(transaction=False) as pipeline:
            for response_id in response_ids:
                pipeline.hmget(record_key(RESPONSE, response_id), _CLEAR)
            found = await pipeline.execute(raise_on_error=False)
        return [_header(response_id, values) for response_id, values in zip(response_ids, found, strict=True)]

    async def all_there(self, response_ids: Sequence[str]) -> bool:
        """Whether none of these records was destroyed: one question, however many there are."""
        keys = [record_key(RESPONSE, each) for each in response_ids]
        portions = in_one_slot(keys, str, most=len(keys), clustered=is_cluster(self.redis))
        async with self.redis.pipeline(transaction=False) as pipeline:
            for portion in portions:
                pipeline.exists(*portion)
            found: list[int] = await pipeline.execute()
        return sum(found) == len(keys)

    async def keyed(self, header: Header) -> KeyedObject | None:
        """The record with the key that opens it, or None if that key was destroyed."""
        kind, object_id = (CONVERSATION, header.conversation) if header.conversation else (RESPONSE, header.id)
        with damage_told(f"the key of response '{header.id}'"):
            key = await self._keyring.get(header.tenant, kind, object_id)
        return None if key is None else KeyedObject(RESPONSE, header.id, key)

    async def request(self, keyed: KeyedObject) -> TurnRequest:
        """What was asked.

        Raises:
            RecordGoneError: The response was destroyed.
            DamagedError: There is a record, but this is missing or does not open.
        """
        (sealed,) = await self._sealed(keyed, REQUEST)
        with _told(keyed.id):
            return REQUEST.open(keyed, sealed)

    async def turn(self, keyed: KeyedObject) -> tuple[TurnRequest, ResponseBody]:
        """What was asked, and the response as its record has it. Raises as `request`."""
        return (await self.turns([keyed]))[0]

    async def turns(self, keyed: Sequence[KeyedObject]) -> list[tuple[TurnRequest, ResponseBody]]:
        """The same of many, in one round trip. ``RecordGoneError.args`` is the id of the one that was destroyed."""
        async with self.redis.pipeline(transaction=False) as pipeline:
            for one in keyed:
                pipeline.hmget(record_key(RESPONSE, one.id), ["tenant", REQUEST.name, BODY.name])
            found = await pipeline.execute(raise_on_error=False)
        turns = []
        for one, values in zip(keyed, found, strict=True):
            with _told(one.id):
                if isinstance(values, ResponseError):
                    raise values
                tenant, asked, body = values
                if tenant is None:
                    raise RecordGoneError(one.id)
                turns.append((REQUEST.open(one, asked), BODY.open(one, body)))
        return turns

    async def read(self, keyed: KeyedObject, field: SealedField[T]) -> T | None:
        """A field of the record, or None where it has none.

        Raises:
            DamagedError: It has one, which does not open.
        """
        with _told(keyed.id):
            sealed: Any = await self.redis.hget(record_key(RESPONSE, keyed.id), field.name)
            return None if sealed is None else field.open(keyed, sealed)

    async def search_results(self, keyed: KeyedObject) -> list[SearchResult] | None:
        """What the run's search has found, or None if it has not searched. Raises as `request`."""
        found, prompt = await self._sealed(keyed, FOUND, PROMPT)
        with _told(keyed.id):
            if found is not None:
                return FOUND.open(keyed, found).results()
            return None if prompt is None else PROMPT.open(keyed, prompt).results

    async def write_once(self, keyed: KeyedObject, field: SealedField[T], value: T) -> T:
        """Writes a field unless another holder of the run has; returns what stands there.

        Raises:
            RecordGoneError: The response was destroyed.
        """
        sealed = field.seal(keyed, value)
        standing: Any = await self._write_once_script(keys=[record_key(RESPONSE, keyed.id)], args=[field.name, sealed])
        if standing is None:
            raise RecordGoneError
        with _told(keyed.id):
            return value if standing == sealed else field.open(keyed, standing)

    @staticmethod
    def finished_fields(keyed: KeyedObject, body: ResponseBody, results: list[SearchResult] | None) -> dict[str, bytes]:
        """The fields that change when the run ends; ``results`` are what its file search found, if it had one."""
        fields = {BODY.name: BODY.seal(keyed, body), "done": b"1"}
        if results is not None:
            fields[RESULTS.name] = RESULTS.seal(keyed, results)
        return fields

    async def request_cancel(self, response_id: str) -> None:
        """Notes the wish, for a holder that does not hear the message."""
        await self._write_script(keys=[record_key(RESPONSE, response_id)], args=["cancel", "1"])

    async def cancel_requested(self, response_id: str) -> bool:
        """Whether someone asked to cancel.

        Raises:
            RecordGoneError: The response was destroyed.
        """
        values: Any = await self.redis.hmget(record_key(RESPONSE, response_id), ["tenant", "cancel"])
        tenant, cancel = values
        if tenant is None:
            raise RecordGoneError
        return cancel is not None

    async def count_takeover(self, response_id: str) -> int:
        """Counts one more gateway that takes the run over; says how many have."""
        return int(await self._count_script(keys=[record_key(RESPONSE, response_id)]))

    async def give_up(self, response_id: str) -> None:
        """Marks a run that nobody can finish as ended, since its record does not open: its followers are told."""
        await self._write_script(keys=[record_key(RESPONSE, response_id)], args=["done", "1", "damaged", "1"])

    async def settle(self, response_id: str) -> None:
        """Drops what was kept for a takeover."""
        kept = (FOUND.name, PROMPT.name, OUTCOME.name, "cancel", "taken")
        await self.redis.hdel(record_key(RESPONSE, response_id), *kept)

    async def hide(self, response_id: str) -> None:
        """Makes the record unreadable through the API at once, before it is destroyed."""
        await self._write_script(keys=[record_key(RESPONSE, response_id)], args=["stored", "0"])

    async def destroy(self, header: Header) -> None:
        """Removes the record, its events and, outside of a conversation, its key."""
        if not header.conversation:
            await self._keyring.destroy(header.tenant, RESPONSE, header.id)
        await self.redis.delete(record_key(RESPONSE, header.id), events_key(header.id))
        if header.conversation:
            await self.redis.srem(responses_key(header.conversation), header.id)

    async def destroy_those_of(self, tenant: str, conversation_id: str) -> None:
        """Removes the records and streams of a conversation's responses, which its key sealed.

        The index names them in the clear: those that say of themselves that they are another's stay.
        """
        index = responses_key(conversation_id)
        members = await self._indexed(index)
        for member in members:
            response_id = member.decode(errors="replace")
            keys = [record_key(RESPONSE, response_id), events_key(response_id)]
            await self._destroy_script(keys=keys, args=[tenant, conversation_id])
        if members:
            # (Not the index: what came into it meanwhile is for who looks again.)
            await self.redis.srem(index, *members)

    async def _sealed(self, keyed: KeyedObject, *fields: SealedField[Any]) -> list[bytes | None]:
        """Fields of a record as they lie there. Raises `RecordGoneError` if there is none."""
        with _told(keyed.id):
            names = ["tenant", *(field.name for field in fields)]
            values: Any = await self.redis.hmget(record_key(RESPONSE, keyed.id), names)
            tenant: bytes | None = values[0]
            sealed: list[bytes | None] = values[1:]
        if tenant is None:
            raise RecordGoneError
        return sealed

    async def _indexed(self, index: str) -> list[bytes]:
        """What is in an index. One that is no set any more names nothing, and goes: it must not keep the rest."""
        try:
            members: Any = await self.redis.smembers(index)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            await self.redis.delete(index)
            return []
        return list(members)


def new_fields(
    header: Header, keyed: KeyedObject, body: ResponseBody, request: TurnRequest
) -> dict[str, str | int | bytes]:
    """The record of a new response."""
    return {
        "tenant": header.tenant,
        "created": int(time.time()),
        "conversation": header.conversation,
        "stored": int(header.stored),
        "background": int(header.background),
        BODY.name: BODY.seal(keyed, body),
        REQUEST.name: REQUEST.seal(keyed, request),
    }


def _header(response_id: str, values: Any) -> Header | None:
    with _told(response_id):
        if isinstance(values, ResponseError):
            raise values
        tenant, conversation, stored, background, done = values
        if tenant is None:
            return None
        return Header(
            response_id,
            tenant.decode(errors="replace"),
            (conversation or b"").decode(errors="replace"),
            stored == b"1",
            background == b"1",
            done == b"1",
            whole=conversation is not None and {stored, background} <= {b"0", b"1"},
        )


def _told(response_id: str) -> AbstractContextManager[None]:
    return damage_told(f"response '{response_id}'")
