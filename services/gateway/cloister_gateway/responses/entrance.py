"""Where turns are stored: once under a key, and one after the other in a conversation.

A turn that meets another one under way in its conversation waits a while; where the write is refused, since the
conversation has moved on meanwhile, it looks again at what it meets now.
"""

import asyncio
import time
from typing import NamedTuple

from cloister_common.errors import CloisterError, Conflict, NotFound
from cloister_common.vault import Keyring

from cloister_gateway.identity.principal import Principal
from cloister_gateway.prompt import Prompt
from cloister_gateway.responses.idempotency import Asked, IdempotencyKeys
from cloister_gateway.responses.reading import ResponseReader
from cloister_gateway.responses.schemas import ResponseParameters
from cloister_gateway.responses.shapes import new_body
from cloister_gateway.runs.acceptance import (
    Acceptance,
    Accepted,
    Claim,
    ClaimedError,
    Log,
    MovedOnError,
    NewTurn,
    Seen,
    UnreservedError,
)
from cloister_gateway.runs.preparation import Preparation
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.runs.store import Header, ResponseStore
from cloister_gateway.settings import ResponsesSettings
from cloister_gateway.storage import (
    CONVERSATION,
    ItemLog,
    KeyedObject,
    LogGoneError,
    LogLockedError,
    StoreError,
    damage_told,
)
from cloister_gateway.usage import Generation, Meter, PromptSize, Reservation

__all__ = ["Entrance", "Turn"]

_LOCK_POLL_SECONDS = 0.1
_BUSY = "Another response of this conversation is being made. Wait for it to end, or cancel it."
_CLAIM_POLL_SECONDS = 0.1
_CLAIM_WAIT_SECONDS = 15.0
"""How long the response of an earlier claim may take to appear, where the two were not written together: a few replies
of a slow Redis (``redis.timeout_seconds``), or two turns would be taken under one key. After that the claim is free:
its gateway died in between, or its response was deleted. Where they are written together it was deleted."""


class Turn(NamedTuple):
    """A turn on its way in."""

    principal: Principal
    parameters: ResponseParameters
    background: bool
    response_id: str
    request: TurnRequest
    asked: Asked | None
    claim: str | None
    """Where the claim of its idempotency key lies."""
    generation: Generation
    size: PromptSize
    """What was reserved for its prompt."""


class Entrance:
    """Stores turns.

    Args:
        reader: Finds the responses of earlier claims.
        idempotency: Knows the turns that were asked before.
        acceptance: Stores turns.
        keyring: Opens the conversations that turns are part of.
        store: Has what was asked before.
        items: Sets conversations free that nobody holds any more.
        preparation: Makes the prompt anew where the conversation has moved on.
        meter: Says whether a longer prompt may be sent.
        settings: How long a turn waits for its conversation.
    """

    def __init__(
        self,
        *,
        reader: ResponseReader,
        idempotency: IdempotencyKeys,
        acceptance: Acceptance,
        keyring: Keyring,
        store: ResponseStore,
        items: ItemLog,
        preparation: Preparation,
        meter: Meter,
        settings: ResponsesSettings,
    ) -> None:
        self._reader = reader
        self._idempotency = idempotency
        self._acceptance = acceptance
        self._keyring = keyring
        self._store = store
        self._items = items
        self._preparation = preparation
        self._meter = meter
        self._settings = settings

    async def conversation(self, principal: Principal, conversation_id: str | None, seen: Seen) -> KeyedObject | None:
        """The conversation that is named, with its key. Raises `NotFound` for unknown, foreign and deleted ones."""
        if conversation_id is None:
            return None
        if seen.tenant == principal.tenant:
            with damage_told(f"the key of conversation '{conversation_id}'"):
                key = await self._keyring.get(principal.tenant, CONVERSATION, conversation_id)
            if key is not None:
                return KeyedObject(CONVERSATION, conversation_id, key)
        raise _no_conversation(conversation_id)

    async def take(
        self,
        turn: Turn,
        conversation: KeyedObject | None,
        seen: Seen,
        draft: Prompt | None,
        reservation: Reservation,
    ) -> Accepted | KeyedObject:
        """Stores the turn, waiting a while for one that is under way in its conversation.

        Args:
            turn: The turn.
            conversation: Its conversation.
            seen: What stood in Redis before it was prepared.
            draft: What was prepared.
            reservation: What it may use; without that nothing is stored, and nothing is done again.

        Returns:
            What was accepted; or the response that somebody else asked for in the same moment, under the same key.
        """
        busy_until = time.monotonic() + self._settings.conversation_wait_seconds
        claimed_until = time.monotonic() + self._claim_wait(turn)
        claim: Claim | None = None
        if turn.asked is not None and turn.claim is not None:
            claim = await self._idempotency.claim(turn.asked, turn.claim, turn.response_id)
        while True:
            try:
                if conversation is not None and seen.holder:
                    # (Who is refused need not wait for that.)
                    await reservation.made()
                    await self._await_other(conversation, seen.holder, until=busy_until)
                else:
                    log = None if conversation is None else Log(conversation, seen.head)
                    accepted = await self._take(turn, log, claim, reservation.pending_at)
                    accepted.transcript.draft = draft
                    return accepted
            except LogGoneError as error:
                raise _no_conversation(turn.request.conversation or "") from error
            except ClaimedError as error:
                if turn.asked is None or claim is None:
                    raise
                taken: bytes = error.args[0]
                earlier = await self.earlier(turn.asked, claim.key, taken)
                if earlier is not None:
                    return earlier
                if time.monotonic() >= claimed_until:
                    claim = claim._replace(replaces=taken)
                await asyncio.sleep(_CLAIM_POLL_SECONDS)
            except (LogLockedError, MovedOnError, UnreservedError):
                pass  # Another turn or items came first: what it meets now is another conversation.
            await reservation.made()
            seen = await self._acceptance.look(turn.principal.tenant, turn.claim, turn.request.conversation)
            conversation = await self.conversation(turn.principal, turn.request.conversation, seen)
            if not seen.holder:
                draft = await self._preparation.draft(turn.principal, turn.request, seen.log)
                turn = await self._reserve_more(turn, draft)

    async def _reserve_more(self, turn: Turn, draft: Prompt | None) -> Turn:
        """Reserves anew where what the conversation has become makes a longer prompt."""
        size = self._preparation.prompt_size(turn.request, draft)
        if size.at_most <= turn.size.at_most:
            return turn
        most = self._preparation.most_output_tokens(turn.request)
        await self._meter.reserve(turn.generation, most_output_tokens=most, prompt_tokens=size)
        return turn._replace(size=size)

    def _claim_wait(self, turn: Turn) -> float:
        """How long the response of an earlier claim may take to appear, in seconds."""
        if turn.claim is not None and self._acceptance.is_apart(turn.claim, turn.request.conversation):
            return _CLAIM_WAIT_SECONDS
        return 0.0

    async def _take(self, turn: Turn, log: Log | None, claim: Claim | None, reserved_at: str | None) -> Accepted:
        """Stores the turn with its claim, or right after it. Raises as `Acceptance.accept`."""
        header = Header(
            turn.response_id,
            turn.principal.tenant,
            turn.request.conversation or "",
            turn.parameters.store is not False,
            turn.background,
            False,
        )
        body = new_body(turn.response_id, turn.parameters, background=turn.background)
        new = NewTurn(header, body, turn.request, log, claim, reserved_at)
        if claim is None or not self._acceptance.is_apart(claim.key, turn.request.conversation):
            return await self._acceptance.accept(new)
        taken = await self._idempotency.put(claim)
        if taken not in {None, claim.value}:
            raise ClaimedError(taken)
        try:
            return await self._acceptance.accept(new._replace(claim=None))
        except (CloisterError, StoreError):
            await self._idempotency.release(claim)
            raise

    async def _await_other(self, conversation: KeyedObject, run: str, *, until: float) -> None:
        """Gives the turn that holds the conversation a moment; sets it free of one that will never write again, since
        its response was destroyed or given up. Raises `Conflict` after ``until`` (monotonic seconds)."""
        holder = await self._holder(conversation, run)
        ended = holder is None or holder.done
        if ended and await self._items.free(conversation.kind, conversation.id, run):
            return
        if time.monotonic() > until:
            raise Conflict(_BUSY, param="conversation", code="conversation_locked", retry_after=2)
        await asyncio.sleep(_LOCK_POLL_SECONDS)

    async def _holder(self, conversation: KeyedObject, run: str) -> Header | None:
        """The response whose run holds the conversation; None if there is none, or none of this conversation."""
        header = await self._store.header(run)
        if header is None or (header.tenant, header.conversation) != (conversation.key.tenant, conversation.id):
            return None
        return header

    async def earlier(self, asked: Asked, claim: str, sealed: bytes) -> KeyedObject | None:
        """The response that a claim is for; None if there is none (any more, or yet). Raises as `IdempotencyKeys`."""
        response_id = await self._idempotency.open(asked, claim, sealed)
        header = await self._reader.header(asked.principal, response_id, [response_id])
        return None if header is None else await self._store.keyed(header)


def _no_conversation(conversation_id: str) -> NotFound:
    return NotFound(f"Conversation with id '{conversation_id}' not found.", param="conversation")
