"""Taking a turn on: who may ask what, and nothing is acknowledged that is not durable."""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from cloister_common.errors import CloisterError, Conflict, InvalidRequest, NotFound, Unavailable
from cloister_common.wire.filters import check_depth

from cloister_gateway.conversations.service import ConversationService
from cloister_gateway.identity.principal import Principal
from cloister_gateway.models import Catalog
from cloister_gateway.responses.idempotency import Asked, Claim, IdempotencyKeys
from cloister_gateway.responses.permissions import check_permissions
from cloister_gateway.responses.reading import ResponseReader
from cloister_gateway.responses.schemas import ResponseParameters
from cloister_gateway.responses.shapes import new_body, new_request
from cloister_gateway.runs.engine import Engine
from cloister_gateway.runs.history import HistoryReader, earlier_links
from cloister_gateway.runs.lease import Leases
from cloister_gateway.runs.preparation import Preparation
from cloister_gateway.runs.records import REQUEST, TurnRequest
from cloister_gateway.runs.store import Header, ResponseStore
from cloister_gateway.settings import ResponsesSettings
from cloister_gateway.storage import CONVERSATION, DamagedError, ItemLog, KeyedObject, LogGoneError, LogLockedError
from cloister_gateway.storage.layout import new_response_id, record_key
from cloister_gateway.usage import Generation, Meter, reserved
from cloister_gateway.wire.items import Item

__all__ = ["Created", "Intake"]

_LOCK_POLL_SECONDS = 0.1
_BUSY = "Another response of this conversation is being made. Wait for it to end, or cancel it."


class Created(NamedTuple):
    """A response that was accepted: durable, and running."""

    keyed: KeyedObject
    replayed: bool


class Intake:
    """Takes turns on.

    Args:
        reader: Finds and awaits the responses that a turn names.
        idempotency: Knows the turns that were asked before.
        conversations: Finds the conversations that turns are part of.
        store: Keeps what is asked.
        items: The conversations' logs, into which the input goes.
        leases: Makes the run this gateway's.
        engine: Runs it.
        preparation: Says whether it fits into the model.
        history: Checks the chain before it.
        models: The chat models.
        meter: Says whether its caller may have it made.
        settings: How long a turn waits for its conversation.
    """

    def __init__(
        self,
        *,
        reader: ResponseReader,
        idempotency: IdempotencyKeys,
        conversations: ConversationService,
        store: ResponseStore,
        items: ItemLog,
        leases: Leases,
        engine: Engine,
        preparation: Preparation,
        history: HistoryReader,
        models: Catalog,
        meter: Meter,
        settings: ResponsesSettings,
    ) -> None:
        self._reader = reader
        self._idempotency = idempotency
        self._conversations = conversations
        self._store = store
        self._items = items
        self._leases = leases
        self._engine = engine
        self._preparation = preparation
        self._history = history
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
        self._check(principal, parameters)
        key = idempotency_key or parameters.client_request_id
        asked = None if key is None else Asked.of(principal, key, parameters, background=background)
        if asked is not None:
            # Before the checks below: what a response was made from may be gone by now.
            earlier = await self._idempotency.earlier(asked, self._stored)
            if earlier is not None:
                return Created(earlier, replayed=True)
        conversation_id = parameters.conversation_id()
        beside = None if conversation_id is None else record_key(CONVERSATION, conversation_id)
        response_id = new_response_id(beside)
        request = new_request(response_id, parameters, key_id=principal.credential.id, background=background)
        if request.conversation is not None:
            await self._check_conversation(principal, request.conversation)
        if request.previous_response_id is not None:
            previous = await self._await_previous(principal, request.previous_response_id, own_unstored)
            links = earlier_links(request.previous_response_id, previous)
            request = request.model_copy(update={"affinity": previous.affinity, "earlier": links})
            await self._history.check_links(principal.tenant, request)
        await self._preparation.check(principal.tenant, request)
        claim: Claim | None = None
        if asked is not None:
            claimed = await self._idempotency.claim(asked, response_id, self._stored)
            if isinstance(claimed, KeyedObject):
                return Created(claimed, replayed=True)
            claim = claimed
        try:
            keyed = await self._accept(principal, response_id, parameters, request, background=background)
        except CloisterError:
            if claim is not None:
                await self._idempotency.release(claim)
            raise
        return Created(keyed, replayed=False)

    async def _accept(
        self,
        principal: Principal,
        response_id: str,
        parameters: ResponseParameters,
        request: TurnRequest,
        *,
        background: bool,
    ) -> KeyedObject:
        """Stores the turn and starts its run. From the moment it is stored, another gateway would run it too."""
        body = new_body(response_id, parameters, background=background)
        header = Header(
            response_id,
            principal.tenant,
            request.conversation or "",
            parameters.store is not False,
            background,
            False,
        )
        generation = Generation(response_id, principal.tenant, request.key_id, request.model, "response")
        async with reserved(self._meter, generation, most_output_tokens=self._preparation.answer_tokens(request)):
            await self._leases.take(response_id)
            try:
                keyed = await self._store.create(header, body=body, request=request)
            except KeyError as error:
                await self._leases.release(response_id)
                raise _no_conversation(header.conversation) from error
            conversation = KeyedObject(CONVERSATION, header.conversation, keyed.key) if header.conversation else None
            if conversation is not None:
                await self._append_input(header, conversation, request.input)
        await self._engine.begin(keyed, conversation, request, body)
        return keyed

    def _check(self, principal: Principal, parameters: ResponseParameters) -> None:
        check_permissions(principal, parameters)
        self._models.get(parameters.model)
        if parameters.conversation is not None and parameters.previous_response_id is not None:
            raise InvalidRequest(
                "'previous_response_id' cannot be used with 'conversation'. Send one of them.",
                param="previous_response_id",
                code="mutually_exclusive_parameters",
            )
        for tool in parameters.tools or []:
            if tool.filters is not None:
                check_depth(tool.filters)
        if parameters.tool_choice == "required" and not parameters.tools:
            raise InvalidRequest("'tool_choice' is 'required', but there are no 'tools'.", param="tool_choice")

    async def _check_conversation(self, principal: Principal, conversation_id: str) -> None:
        try:
            await self._conversations.find(principal, conversation_id)
        except NotFound as error:
            raise _no_conversation(conversation_id) from error

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

    async def _append_input(self, header: Header, conversation: KeyedObject, items: list[Item]) -> None:
        """Puts the input into the conversation, waiting a while for a turn that is under way."""
        deadline = time.monotonic() + self._settings.conversation_wait_seconds
        while True:
            try:
                await self._items.append(conversation, items, hold_for=header.id)
                return
            except DamagedError:
                await self._discard(header)
                raise
            except LogGoneError as error:
                await self._discard(header)
                raise _no_conversation(header.conversation) from error
            except LogLockedError as error:
                holder = await self._holder(conversation, error.args[0])
                # A run that will never write again, since its response was destroyed or given up.
                ended = holder is None or holder.done
                if ended and await self._items.free(conversation.kind, conversation.id, error.args[0]):
                    continue
                if time.monotonic() > deadline:
                    await self._discard(header)
                    raise Conflict(_BUSY, param="conversation", code="conversation_locked", retry_after=2) from error
            try:
                if not await self._leases.renew(header.id):
                    # This gateway stood still, and another has removed what it took for the leavings of a dead one.
                    raise Unavailable("The server was too busy to take this turn. Try again.", retry_after=2)
                await asyncio.sleep(_LOCK_POLL_SECONDS)
            except asyncio.CancelledError:
                # Its caller left or lost its credential before the turn was taken: nothing is left of it.
                await self._discard(header)
                raise

    async def _holder(self, conversation: KeyedObject, run: str) -> Header | None:
        """The response whose run holds the conversation; None if there is none, or none of this conversation."""
        header = await self._store.header(run)
        if header is None or (header.tenant, header.conversation) != (conversation.key.tenant, conversation.id):
            return None
        return header

    async def _discard(self, header: Header) -> None:
        await self._store.destroy(header)
        await self._leases.release(header.id)

    async def _stored(self, principal: Principal, response_id: str) -> KeyedObject | None:
        header = await self._reader.header(principal, response_id, [response_id])
        return None if header is None else await self._store.keyed(header)


def _no_conversation(conversation_id: str) -> NotFound:
    return NotFound(f"Conversation with id '{conversation_id}' not found.", param="conversation")
