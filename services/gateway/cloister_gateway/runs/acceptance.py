"""Accepting a turn in one write: all of it stands in Redis, or nothing does, after one sync of its disk.

In one step, in the slot that all of it shares: the record, the key that seals it or, in a conversation, the input at
the end of its log; the lease of the run; the first events; the idempotency claim. So there is no half accepted turn for
anyone to find, and the input can be shown the moment it is acknowledged. Before that, in the same pipeline where there
is one Redis, the run is listed among those that run: where a gateway dies right after, another finds it there.
"""

from typing import Any, NamedTuple

from cloister_common.vault import Keyring, NewKey
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from cloister_gateway.runs.lease import LEASE_SECONDS, Leases
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.runs.store import Header, new_fields
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.storage import (
    CONVERSATION,
    RESPONSE,
    ItemLog,
    KeyedObject,
    LogDamagedError,
    LogGoneError,
    LogLockedError,
    StoredLog,
    StoreError,
    damage_told,
)
from cloister_gateway.storage.client import is_cluster
from cloister_gateway.storage.items import PreparedItems
from cloister_gateway.storage.layout import (
    events_key,
    items_key,
    lease_key,
    record_key,
    responses_key,
    wrapped_key_key,
)
from cloister_gateway.storage.slots import slot_of
from cloister_gateway.streams.events import sealed_group
from cloister_gateway.wire.items import ResponseBody

__all__ = [
    "Acceptance",
    "Accepted",
    "Claim",
    "ClaimedError",
    "Log",
    "MovedOnError",
    "NewTurn",
    "Seen",
    "UnreservedError",
]

# ARGV: holder, milliseconds; claim or '', the claim it may replace, seconds; the first events' entry (id, n, d, f);
# number of fields of the record, these; what `_ALONE` and `_IN_CONVERSATION` say. The last of KEYS is the claim's, if
# there is one. What is refused is refused before anything is written.
_CLAIMED = """
if ARGV[3] ~= '' then
  local taken = redis.call('GET', KEYS[#KEYS])
  if taken and taken ~= ARGV[4] then return {'CLAIMED', taken} end
end
local fields = tonumber(ARGV[10])
local rest = 11 + fields
"""
# KEYS: record, lease, events.
_BEGIN = """
redis.call('HSET', KEYS[1], unpack(ARGV, 11, 10 + fields))
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
redis.call('XADD', KEYS[3], ARGV[6], 'n', ARGV[7], 'd', ARGV[8], 'f', ARGV[9])
if ARGV[3] ~= '' then redis.call('SET', KEYS[#KEYS], ARGV[3], 'EX', ARGV[5]) end
return {'OK'}
"""
# KEYS: record, lease, events, wrapped key. ARGV: …, the wrapped key.
_ALONE = _CLAIMED + "redis.call('SET', KEYS[4], ARGV[rest])" + _BEGIN
# KEYS: record, lease, events, conversation, its items, its responses. ARGV: …, the response, the head to replace, the
# new head, the first item's number, then id, record and the chain before it for each item.
_IN_CONVERSATION = (
    _CLAIMED
    + """
local said = redis.call('HMGET', KEYS[4], 'head', 'run')
if not said[1] then return {'GONE'} end
if said[2] and said[2] ~= '' then return {'LOCKED', said[2]} end
if said[1] ~= ARGV[rest + 1] then return {'STALE'} end
for i = rest + 4, #ARGV, 3 do
  local place = string.format('%d-0', tonumber(ARGV[rest + 3]) + (i - rest - 4) / 3)
  local added = redis.pcall('XADD', KEYS[5], place, 'i', ARGV[i], 'r', ARGV[i + 1], 'c', ARGV[i + 2])
  if added.err then return {'DAMAGED'} end
end
redis.call('HSET', KEYS[4], 'head', ARGV[rest + 2], 'run', ARGV[rest])
-- An index that somebody made something else of names nothing; it must not keep the turn from being taken.
redis.pcall('SADD', KEYS[6], ARGV[rest])
"""
    + _BEGIN
)

# Before either of them, where the turn needs a reservation that may not be there. The last of KEYS is then where it is
# held, and the last of ARGV the response.
_RESERVED = """
if redis.call('HEXISTS', table.remove(KEYS), table.remove(ARGV)) == 0 then return {'UNRESERVED'} end
"""


class MovedOnError(StoreError):
    """The conversation has other items than those the turn was prepared for; nothing was written."""


class UnreservedError(StoreError):
    """What the turn needs is not reserved, or not yet; nothing was written."""


class ClaimedError(StoreError):
    """The idempotency key is taken; nothing was written. ``args[0]`` is the claim that stands there."""


class Claim(NamedTuple):
    """An idempotency key, as it is claimed.

    Attributes:
        key: Where it lies.
        value: The sealed claim.
        replaces: A claim that may stand there, since nothing is left of its response; else empty.
        seconds: How long it is remembered.
    """

    key: str
    value: bytes
    replaces: bytes
    seconds: int


class Log(NamedTuple):
    """A conversation, as the turn found it.

    Attributes:
        keyed: The conversation with its key.
        head: The sealed head of its log.
    """

    keyed: KeyedObject
    head: bytes | None


class NewTurn(NamedTuple):
    """A turn that is to be accepted.

    Attributes:
        header: What its record says in the clear.
        body: The response as created.
        request: What was asked.
        log: The conversation it is part of.
        claim: The idempotency key it was asked with.
        reserved_at: Where it must have a reservation to be accepted (`Meter.held_at`); None where it has.
    """

    header: Header
    body: ResponseBody
    request: TurnRequest
    log: Log | None
    claim: Claim | None
    reserved_at: str | None = None


class Accepted(NamedTuple):
    """A turn that was accepted, with what its run begins with.

    Attributes:
        keyed: The response with its key.
        conversation: The conversation as the turn left it.
        request: What was asked.
        transcript: The response with its first events.
        events: These events.
    """

    keyed: KeyedObject
    conversation: Log | None
    request: TurnRequest
    transcript: Transcript
    events: list[bytes]


class Seen(NamedTuple):
    """What stands in Redis before a turn is taken.

    Attributes:
        claim: Under its idempotency key.
        tenant: Whose conversation it is; None if there is none.
        head: The sealed head of the conversation's log.
        holder: The run that holds the conversation; empty if none does.
        log: Its items, if those that were kept go on to them.
    """

    claim: bytes | None = None
    tenant: str | None = None
    head: bytes | None = None
    holder: str = ""
    log: StoredLog | None = None


class Acceptance:
    """Accepts turns.

    Args:
        redis: Where they are stored.
        keyring: Makes their keys.
        items: Seals the input.
        leases: Names the holder of the run.
    """

    def __init__(self, redis: Redis, keyring: Keyring, items: ItemLog, leases: Leases) -> None:
        self._redis = redis
        self._keyring = keyring
        self._items = items
        self._leases = leases
        self._clustered = is_cluster(redis)

    def is_apart(self, claim: str, conversation_id: str | None) -> bool:
        """Whether a claim cannot be written together with a turn of the conversation, and must stand before it."""
        if not self._clustered or conversation_id is None:
            return False
        return slot_of(claim) != slot_of(record_key(CONVERSATION, conversation_id))

    async def look(self, tenant: str, claim: str | None, conversation_id: str | None) -> Seen:
        """What a turn meets, in one round trip.

        Args:
            tenant: Whose turn it is.
            claim: Where the claim of its idempotency key lies.
            conversation_id: Its conversation.

        Raises:
            DamagedError: What stands there is not of ours.
        """
        if claim is None and conversation_id is None:
            return Seen()
        keyed: KeyedObject | None = None
        known: StoredLog | None = None
        async with self._redis.pipeline(transaction=False) as pipeline:
            if claim is not None:
                pipeline.get(claim)
            if conversation_id is not None:
                pipeline.hmget(record_key(CONVERSATION, conversation_id), "tenant", "head", "run")
                key = self._keyring.known(tenant, CONVERSATION, conversation_id)
                if key is not None:
                    keyed = KeyedObject(CONVERSATION, conversation_id, key)
                    known = self._items.ask(pipeline, keyed)
            found = await pipeline.execute(raise_on_error=False)
        seen = Seen()
        if claim is not None:
            with damage_told("this idempotency key"):
                seen = seen._replace(claim=_value(found[0]))
        if conversation_id is not None:
            with damage_told(f"conversation '{conversation_id}'"):
                owner, head, run = _value(found[0 if claim is None else 1])
                text = None if owner is None else owner.decode(errors="replace")
                seen = seen._replace(tenant=text, head=head, holder=(run or b"").decode(errors="replace"))
                if keyed is not None and known is not None:
                    log = await self._items.answered(keyed, known, head, found[-2], found[-1])
                    seen = seen._replace(log=log)
        return seen

    async def accept(self, turn: NewTurn) -> Accepted:
        """Stores the turn and takes its run. From the moment it is stored, another gateway would run it too.

        Raises:
            ClaimedError, UnreservedError, MovedOnError, LogLockedError, LogGoneError, LogDamagedError: Nothing was
                written.
        """
        header, log = turn.header, turn.log
        made: NewKey | None = None
        new: PreparedItems | None = None
        after: Log | None = None
        keys = [record_key(RESPONSE, header.id), lease_key(header.id), events_key(header.id)]
        rest: list[Any]
        if log is None:
            made = await self._keyring.make(header.tenant, RESPONSE, header.id)
            keyed = KeyedObject(RESPONSE, header.id, made.key)
            keys.append(wrapped_key_key(made.name, sharded=self._clustered))
            rest = [made.wrapped]
        else:
            kind, object_id, key = log.keyed
            keyed = KeyedObject(RESPONSE, header.id, key)
            new = self._items.prepare_behind(log.keyed, turn.request.input, log.head)
            after = log._replace(head=new.new_head)
            keys += [record_key(kind, object_id), items_key(kind, object_id), responses_key(object_id)]
            rest = [header.id, new.old_head, new.new_head, *new.addition.arguments()]
        claim = turn.claim
        if claim is not None:
            keys.append(claim.key)
        fields = [part for pair in new_fields(header, keyed, turn.body, turn.request).items() for part in pair]
        transcript = Transcript(turn.body)
        transcript.announce(background=header.background)
        first, events = transcript.take_pending()
        arguments: list[Any] = [self._leases.holder, int(LEASE_SECONDS * 1000)]
        arguments += ["", "", 0] if claim is None else claim[1:]
        arguments += [*sealed_group(keyed, first, events, final=False), len(fields), *fields, *rest]
        script = _ALONE if log is None else _IN_CONVERSATION
        if turn.reserved_at is not None:
            script = _RESERVED + script
            keys.append(turn.reserved_at)
            arguments.append(header.id)
        async with self._redis.pipeline(transaction=False) as pipeline:
            await self._leases.list_before(pipeline, header.id)
            pipeline.eval(script, len(keys), *keys, *arguments)
            # (Where the list of one Redis did not take it, the keeper lists it with its first renewal.)
            answer = (await pipeline.execute(raise_on_error=False))[-1]
        try:
            with damage_told("what this turn needs"):
                _check(_value(answer), log)
        except (StoreError, ResponseError):
            await self._leases.release(header.id)
            raise
        if made is not None:
            self._keyring.stored(made)
        if log is not None and new is not None:
            self._items.written(log.keyed, new)
        return Accepted(keyed, after, turn.request, transcript, events)


def _value(found: Any) -> Any:
    """What Redis answered to one command of a pipeline. Raises what it refused it with."""
    if isinstance(found, Exception):
        raise found
    return found


def _check(answer: list[bytes], log: Log | None) -> None:
    """Raises what the script refused the turn with."""
    match answer:
        case [b"OK"]:
            return
        case [b"CLAIMED", taken]:
            raise ClaimedError(taken)
        case [b"LOCKED", holder]:
            raise LogLockedError(holder.decode(errors="replace"))
        case [b"UNRESERVED"]:
            raise UnreservedError
        case [b"STALE"]:
            raise MovedOnError
        case [b"GONE"]:
            raise LogGoneError
        case _:
            raise LogDamagedError(f"the items of '{log.keyed.id}'" if log is not None else "this turn")
