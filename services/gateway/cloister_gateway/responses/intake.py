"""Taking a turn on: who may ask what, and nothing is acknowledged that is not durable.

What a turn meets is read in one round trip, its prompt is made, and then all of it is stored in one write
(`cloister_gateway.runs.acceptance`). Until that write nothing is stored of it; where the write is refused, since the
conversation has moved on meanwhile, the turn looks again.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from cloister_common.errors import CloisterError, Conflict, InvalidRequest, NotFound
from cloister_common.vault import Keyring
from cloister_common.wire.filters import check_depth

from cloister_gateway.identity.principal import Principal
from cloister_gateway.models import Catalog, ChatModel
from cloister_gateway.models.reasoning import check_effort
from cloister_gateway.prompt import Prompt
from cloister_gateway.responses.idempotency import Asked, IdempotencyKeys
from cloister_gateway.responses.permissions import check_permissions
from cloister_gateway.responses.reading import ResponseReader
from cloister_gateway.responses.schemas import ResponseParameters
from cloister_gateway.responses.shapes import in_force, new_body, new_request
from cloister_gateway.responses.tools import FileSearchTool
from cloister_gateway.runs.acceptance import Acceptance, Accepted, Claim, ClaimedError, Log, MovedOnError, NewTurn, Seen
from cloister_gateway.runs.engine import Engine
from cloister_gateway.runs.history import HistoryReader, earlier_links
from cloister_gateway.runs.inputs import Destination, InputItems
from cloister_gateway.runs.preparation import Preparation
from cloister_gateway.runs.records import REQUEST, TurnRequest
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
from cloister_gateway.storage.layout import new_response_id, record_key
from cloister_gateway.usage import Generation, Meter, Used, reserved

__all__ = ["Created", "Intake"]

_LOCK_POLL_SECONDS = 0.1
_BUSY = "Another response of this conversation is being made. Wait for it to end, or cancel it."
_CLAIM_POLL_SECONDS = 0.1
_CLAIM_WAIT_SECONDS = 15.0
"""How long the response of an earlier claim may take to appear, where the two were not written together: a few replies
of a slow Redis (``redis.timeout_seconds``), or two turns would be taken under one key. After that the claim is free:
its gateway died in between, or its response was deleted. Where they are written together it was deleted."""


class Created(NamedTuple):
    """A response that was accepted: durable, and running."""

    keyed: KeyedObject
    replayed: bool


class _Turn(NamedTuple):
    """A turn on its way in."""

    principal: Principal
    parameters: ResponseParameters
    background: bool
    response_id: str
    request: TurnRequest
    asked: Asked | None
    claim: str | None
    """Where the claim of its idempotency key lies."""


class Intake:
    """Takes turns on.

    Args:
        reader: Finds and awaits the responses that a turn names.
        idempotency: Knows the turns that were asked before.
        acceptance: Stores turns.
        keyring: Opens the conversations that turns are part of.
        store: Has what was asked before.
        items: Sets conversations free that nobody holds any more.
        engine: Runs what was accepted.
        preparation: Makes the prompt, and says whether it fits into the model.
        history: Checks the chain before it.
        inputs: Makes stored items of what was sent.
        models: The chat models.
        meter: Says whether its caller may have it made.
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
        engine: Engine,
        preparation: Preparation,
        history: HistoryReader,
        inputs: InputItems,
        models: Catalog,
        meter: Meter,
        settings: ResponsesSettings,
    ) -> None:
        self._reader = reader
        self._idempotency = idempotency
        self._acceptance = acceptance
        self._keyring = keyring
        self._store = store
        self._items = items
        self._engine = engine
        self._preparation = preparation
        self._history = history
        self._inputs = inputs
        self._models = models
        self._meter = meter
        self._settings = settings

    async def create(
        self,
        principal: Principal,
        parameters: ResponseParameters,
        *,
        background: bool = False,
        idempotency_key: str | None = None,
        own_unstored: Sequence[str] = (),
    ) -> Created:
        """Accepts a turn: checks it, stores it, starts its run.

        Args:
            principal: Who asks.
            parameters: What for.
            background: Whether the run goes on with nobody watching.
            idempotency_key: The same key and turn again give the same response, whichever transport they come by.
            own_unstored: Responses with ``store: false`` that this caller's connection may continue.

        Raises:
            InvalidRequest, UnsupportedParameter, NotFound, Forbidden, Conflict: Nothing was stored.
        """
        model = self._check(principal, parameters)
        key = idempotency_key or parameters.client_request_id
        asked = None if key is None else Asked.of(principal, key, parameters, background=background)
        claim = None if asked is None else await self._idempotency.name(asked)
        conversation_id = parameters.conversation_id()
        seen = await self._acceptance.look(principal.tenant, claim, conversation_id)
        if asked is not None and claim is not None and seen.claim is not None:
            # Before the checks below: what a response was made from may be gone by now.
            earlier = await self._earlier(asked, claim, seen.claim)
            if earlier is not None:
                return Created(earlier, replayed=True)
        beside = claim if conversation_id is None else record_key(CONVERSATION, conversation_id)
        response_id = new_response_id(beside)
        parameters = in_force(parameters, model)
        conversation = None if conversation_id is None else await self._conversation(principal, conversation_id, seen)
        to = Destination("input", conversation, response_id, parameters.model, own_unstored)
        items = await self._inputs.stored(principal, parameters.input, to)
        request = new_request(response_id, parameters, items, principal, background=background)
        if request.previous_response_id is not None:
            previous = await self._await_previous(principal, request.previous_response_id, own_unstored)
            links = earlier_links(request.previous_response_id, previous)
            request = request.model_copy(update={"affinity": previous.affinity, "earlier": links})
            await self._history.check_links(principal.tenant, request)
        draft = await self._preparation.draft(principal, request, seen.log)
        turn = _Turn(principal, parameters, background, response_id, request, asked, claim)
        generation = Generation(response_id, principal.tenant, request.key_id, request.model, "response")
        most = self._preparation.answer_tokens(request)
        async with reserved(self._meter, generation, most_output_tokens=most):
            accepted = await self._accepted(turn, conversation, seen, draft)
        if isinstance(accepted, KeyedObject):
            self._meter.settle(generation, Used(), "cancelled")
            return Created(accepted, replayed=True)
        await self._engine.begin(accepted)
        return Created(accepted.keyed, replayed=False)

    def _check(self, principal: Principal, parameters: ResponseParameters) -> ChatModel:
        """The model that is asked. Raises for what can be told from the request alone."""
        check_permissions(principal, parameters)
        model = self._models.served(parameters.model, principal.tenant)
        check_effort(model, parameters.effort(), param="reasoning.effort")
        if parameters.conversation is not None and parameters.previous_response_id is not None:
            raise InvalidRequest(
                "'previous_response_id' cannot be used with 'conversation'. Send one of them.",
                param="previous_response_id",
                code="mutually_exclusive_parameters",
            )
        for place, tool in enumerate(parameters.tools or []):
            if isinstance(tool, FileSearchTool) and tool.filters is not None:
                check_depth(tool.filters, param=f"tools[{place}].filters")
        return model

    async def _conversation(self, principal: Principal, conversation_id: str, seen: Seen) -> KeyedObject:
        """The conversation with its key. Raises `NotFound` for unknown, foreign and deleted ones alike."""
        if seen.tenant == principal.tenant:
            with damage_told(f"the key of conversation '{conversation_id}'"):
                key = await self._keyring.get(principal.tenant, CONVERSATION, conversation_id)
            if key is not None:
                return KeyedObject(CONVERSATION, conversation_id, key)
        raise _no_conversation(conversation_id)

    async def _await_previous(self, principal: Principal, previous: str, unstored: Sequence[str]) -> TurnRequest:
        """Waits for the end of the previous response; what was asked then, as its prompt is the beginning of ours."""
        header = await self._reader.header(principal, previous, unstored)
        header, keyed, request = await self._history.read_link(principal.tenant, previous, header)
        if not header.done:
            await self._reader.finish(keyed)
        await self._check_chain(principal, request.previous_response_id)
        return request

    async def _check_chain(self, principal: Principal, response_id: str | None) -> None:
        """Refuses a chain that begins in a conversation to those who may not read conversations."""
        while response_id is not None and not principal.allows("conversations"):
            header = await self._reader.header(principal, response_id, [response_id])
            keyed = None if header is None else await self._store.keyed(header)
            if keyed is None:
                return
            request = await self._store.read(keyed, REQUEST)
            response_id = None if request is None else request.previous_response_id

    async def _accepted(
        self, turn: _Turn, conversation: KeyedObject | None, seen: Seen, draft: Prompt | None
    ) -> Accepted | KeyedObject:
        """Stores the turn, waiting a while for one that is under way in its conversation.

        Args:
            turn: The turn.
            conversation: Its conversation.
            seen: What stood in Redis before it was prepared.
            draft: What was prepared.

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
                    await self._await_other(conversation, seen.holder, until=busy_until)
                else:
                    log = None if conversation is None else Log(conversation, seen.head)
                    accepted = await self._take(turn, log, claim)
                    accepted.transcript.draft = draft
                    return accepted
            except LogGoneError as error:
                raise _no_conversation(turn.request.conversation or "") from error
            except ClaimedError as error:
                if turn.asked is None or claim is None:
                    raise
                taken: bytes = error.args[0]
                earlier = await self._earlier(turn.asked, claim.key, taken)
                if earlier is not None:
                    return earlier
                if time.monotonic() >= claimed_until:
                    claim = claim._replace(replaces=taken)
                await asyncio.sleep(_CLAIM_POLL_SECONDS)
            except (LogLockedError, MovedOnError):
                pass  # Another turn or items came first: what it meets now is another conversation.
            seen = await self._acceptance.look(turn.principal.tenant, turn.claim, turn.request.conversation)
            if conversation is not None:
                conversation = await self._conversation(turn.principal, conversation.id, seen)
            if not seen.holder:
                draft = await self._preparation.draft(turn.principal, turn.request, seen.log)

    def _claim_wait(self, turn: _Turn) -> float:
        """How long the response of an earlier claim may take to appear, in seconds."""
        if turn.claim is not None and self._acceptance.is_apart(turn.claim, turn.request.conversation):
            return _CLAIM_WAIT_SECONDS
        return 0.0

    async def _take(self, turn: _Turn, log: Log | None, claim: Claim | None) -> Accepted:
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
        new = NewTurn(header, body, turn.request, log, claim)
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

    async def _earlier(self, asked: Asked, claim: str, sealed: bytes) -> KeyedObject | None:
        """The response that a claim is for; None if there is none (any more, or yet). Raises as `IdempotencyKeys`."""
        response_id = await self._idempotency.open(asked, claim, sealed)
        header = await self._reader.header(asked.principal, response_id, [response_id])
        return None if header is None else await self._store.keyed(header)


def _no_conversation(conversation_id: str) -> NotFound:
    return NotFound(f"Conversation with id '{conversation_id}' not found.", param="conversation")
