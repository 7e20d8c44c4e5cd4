"""The rules of the Responses API: who may ask what, what is stored before it is acknowledged, what is read back."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple

import orjson
from cloister_common.errors import CloisterError, Conflict, InvalidRequest, NotFound, Unavailable
from cloister_common.ids import new_id
from cloister_common.vault import VaultError
from cloister_common.wire.filters import check_depth

from cloister_gateway.identity.principal import Principal
from cloister_gateway.models.catalog import Catalog
from cloister_gateway.responses.idempotency import Claim, IdempotencyKeys
from cloister_gateway.responses.permissions import check_permissions
from cloister_gateway.responses.schemas import ResponseParameters
from cloister_gateway.responses.shapes import (
    input_item,
    last_event,
    new_body,
    response_format,
    snapshot,
    with_results,
)
from cloister_gateway.runs.engine import Engine
from cloister_gateway.runs.lease import Leases
from cloister_gateway.runs.preparation import Preparation
from cloister_gateway.runs.store import KIND, Header, ResponseStore
from cloister_gateway.settings import ResponsesSettings
from cloister_gateway.storage import ItemLog, LogGoneError, LogLockedError, Owner, RecordGoneError
from cloister_gateway.streams.feeds import Feed, Hub
from cloister_gateway.usage import Generation, Meter, reserved

__all__ = ["Created", "ResponseService"]

_LOCK_POLL_SECONDS = 0.1
_RUNNING = frozenset({"queued", "in_progress"})
_BUSY = "Another response of this conversation is being made. Wait for it to end, or cancel it."


class Created(NamedTuple):
    """A response that was accepted: durable, and running."""

    owner: Owner
    replayed: bool


class ResponseService:
    """Creates, reads, cancels and deletes responses."""

    def __init__(
        self,
        *,
        idempotency: IdempotencyKeys,
        find_conversation: Callable[[Principal, str], Awaitable[Owner]],
        store: ResponseStore,
        items: ItemLog,
        leases: Leases,
        engine: Engine,
        hub: Hub,
        preparation: Preparation,
        models: Catalog,
        meter: Meter,
        settings: ResponsesSettings,
    ) -> None:
        self._idempotency = idempotency
        self._find_conversation = find_conversation
        self._store = store
        self._items = items
        self._leases = leases
        self._engine = engine
        self._hub = hub
        self._preparation = preparation
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
            idempotency_key: The same key and body again give the same response.
            own_unstored: Responses with ``store: false`` that this caller's connection may continue.

        Raises:
            InvalidRequest, UnsupportedParameter, NotFound, Forbidden, Conflict: Nothing was stored.
        """
        self._check(principal, parameters)
        key = idempotency_key or parameters.client_request_id
        if key is not None:
            # Before the checks below: what a response was made from may be gone by now.
            earlier = await self._idempotency.earlier(principal, key, parameters, self._stored)
            if earlier is not None:
                return Created(earlier, replayed=True)
        response_id = new_id("resp_")
        request = self._request(response_id, parameters, background=background)
        request["key"] = principal.key_id
        if request["conversation"] is not None:
            await self._check_conversation(principal, request["conversation"])
        if request["previous_response_id"] is not None:
            request["affinity"] = await self._await_previous(principal, request["previous_response_id"], own_unstored)
        await self._preparation.check(principal.tenant, request)
        claim: Claim | None = None
        if key is not None:
            claimed = await self._idempotency.claim(principal, key, parameters, response_id, self._stored)
            if isinstance(claimed, Owner):
                return Created(claimed, replayed=True)
            claim = claimed
        try:
            owner = await self._accept(principal, response_id, parameters, request, background=background)
        except CloisterError:
            if claim is not None:
                await self._idempotency.release(claim)
            raise
        return Created(owner, replayed=False)

    async def _accept(
        self,
        principal: Principal,
        response_id: str,
        parameters: ResponseParameters,
        request: dict[str, Any],
        *,
        background: bool,
    ) -> Owner:
        """Stores the turn and starts its run. From the moment it is stored, another gateway would run it too."""
        body = new_body(response_id, parameters, background=background)
        stored, conversation_id = parameters.store is not False, request["conversation"] or ""
        header = Header(response_id, principal.tenant, conversation_id, stored, background, False)
        generation = Generation(response_id, principal.tenant, principal.key_id, parameters.model, "response")
        async with reserved(self._meter, generation, most_output_tokens=self._preparation.answer_tokens(request)):
            await self._leases.take(KIND, response_id)
            try:
                owner = await self._store.create(header, body=body, request=request)
            except KeyError as error:
                await self._leases.release(KIND, response_id)
                raise _no_conversation(header.conversation) from error
            conversation = Owner("conv", header.conversation, owner.key) if header.conversation else None
            if conversation is not None:
                await self._append_input(header, conversation, request["input"])
        await self._engine.start(owner, conversation, request, body)
        return owner

    async def find(self, principal: Principal, response_id: str, *, unstored: Sequence[str] = ()) -> Owner:
        """The response with its key. Raises `NotFound` for unknown, foreign, deleted and unstored ones alike.

        Raises `Forbidden` for one of a conversation, or with passages of documents, if the key lacks the scope of them.
        """
        header = await self._header(principal, response_id, unstored)
        owner = None if header is None else await self._store.owner(header)
        if owner is None:
            raise _no_response(response_id)
        request = None if principal.allows("vector_stores") else await self._store.read(owner, "request")
        if request is not None and request["show_results"]:
            principal.require("vector_stores")
        return owner

    async def retrieve(self, principal: Principal, response_id: str, *, results: bool) -> dict[str, Any]:
        """The response as it is now; with the ``results`` of its file search for those who ask now."""
        if results:
            principal.require("vector_stores", param="include")
        owner = await self.find(principal, response_id)
        body = await self.body(owner)
        if not results:
            return body
        return {**body, "output": with_results(body["output"], await self._store.read(owner, "results"))}

    async def body(self, owner: Owner) -> dict[str, Any]:
        """The response's latest snapshot: from its record when it has ended, else from its events."""
        body = await self._body(owner)
        if body["status"] in _RUNNING:
            async with self._watch(owner) as feed:
                return snapshot(body, feed.events)
        return body

    async def events(self, owner: Owner, *, after: int) -> AsyncGenerator[list[bytes], None]:
        """The events after number ``after``, those of the past first, until the run has ended.

        After the stream of an ended run was dropped, what is left is its last event: the finished response.
        Close the iterator (``contextlib.aclosing``) to stop watching.

        Raises:
            NotFound: The response was deleted meanwhile.
        """
        # Before the events are read: a run that ends in between has its stream still.
        body = await self._body(owner)
        async with self._watch(owner) as feed:
            if not feed.events and body["status"] not in _RUNNING:
                yield [last_event(body, after + 1)]
                return
            async with aclosing(feed.follow(after)) as batches:
                async for batch in batches:
                    yield batch

    async def finish(self, owner: Owner) -> dict[str, Any]:
        """Waits for the end of the run; the final response."""
        body = await self._body(owner)
        if body["status"] not in _RUNNING:
            return body
        async with self._watch(owner) as feed:
            async with aclosing(feed.follow(len(feed.events) - 1)) as batches:
                async for _ in batches:
                    pass
            final: dict[str, Any] = orjson.loads(feed.events[-1])["response"]
            return final

    async def _body(self, owner: Owner) -> dict[str, Any]:
        """The body in the record. Raises `VaultError` for a run that was given up, since its record does not open."""
        header = await self._store.header(owner.id)
        body: dict[str, Any] | None = await self._store.read(owner, "body")
        if header is None or body is None:
            raise _no_response(owner.id)
        if header.done and body["status"] in _RUNNING:
            raise VaultError
        return body

    @asynccontextmanager
    async def _watch(self, owner: Owner) -> AsyncIterator[Feed]:
        try:
            async with self._hub.watch(owner) as feed:
                yield feed
        except RecordGoneError as error:
            raise _no_response(owner.id) from error

    async def cancel(self, principal: Principal, response_id: str) -> dict[str, Any]:
        """Stops the run and returns the response as it ended. A response that has ended already is returned as is."""
        owner = await self.find(principal, response_id)
        body = await self.body(owner)
        if body["status"] not in _RUNNING:
            return body
        await self._engine.cancel(response_id)
        return await self.finish(owner)

    async def request_cancel(self, principal: Principal, response_id: str, *, unstored: Sequence[str] = ()) -> None:
        """Stops the run without waiting: whoever follows it sees its end."""
        await self.find(principal, response_id, unstored=unstored)
        await self._engine.cancel(response_id)

    async def delete(self, principal: Principal, response_id: str) -> None:
        """Destroys the response. A run that is under way is stopped first, unreadable from now on.

        A gateway that dies meanwhile leaves a response that can be deleted again, or one that goes with its stream.
        """
        principal.keep_fence("delete single responses")
        owner = await self.find(principal, response_id)
        header = await self._store.header(response_id)
        if header is None:
            raise _no_response(response_id)
        if not header.done:
            await self._store.hide(response_id)
            await self._engine.cancel(response_id)
            await self.finish(owner)
        await self._store.destroy(header)

    async def input_items(self, principal: Principal, response_id: str) -> list[dict[str, Any]]:
        """The input items of a response, in order."""
        owner = await self.find(principal, response_id)
        request = await self._store.read(owner, "request")
        if request is None:
            raise _no_response(response_id)
        items: list[dict[str, Any]] = request["input"]
        return items

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

    @staticmethod
    def _request(response_id: str, parameters: ResponseParameters, *, background: bool) -> dict[str, Any]:
        """What is stored of the request: all that another gateway needs to run it."""
        tools = [] if parameters.tool_choice == "none" else (parameters.tools or [])
        return {
            "model": parameters.model,
            "input": [input_item(message) for message in parameters.input],
            "instructions": parameters.instructions,
            "conversation": parameters.conversation_id(),
            "previous_response_id": parameters.previous_response_id,
            "tools": [tool.model_dump(exclude_none=True) for tool in tools],
            "show_results": "file_search_call.results" in (parameters.include or []),
            "response_format": response_format(parameters),
            "temperature": parameters.temperature,
            "top_p": parameters.top_p,
            "max_output_tokens": parameters.max_output_tokens,
            "truncation": parameters.truncation or "auto",
            "background": background,
            "affinity": parameters.conversation_id() or parameters.prompt_cache_key or response_id,
        }

    async def _check_conversation(self, principal: Principal, conversation_id: str) -> None:
        try:
            await self._find_conversation(principal, conversation_id)
        except NotFound as error:
            raise _no_conversation(conversation_id) from error

    async def _await_previous(self, principal: Principal, previous: str, unstored: Sequence[str]) -> str:
        """Waits for the end of the previous response; its affinity, as its prompt is the beginning of ours."""
        header = await self._header(principal, previous, unstored)
        owner = None if header is None else await self._store.owner(header)
        request = None if owner is None else await self._store.read(owner, "request")
        if header is None or owner is None or request is None:
            raise NotFound(
                f"Previous response with id '{previous}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        if not header.done:
            await self.finish(owner)
        await self._check_chain(principal, request["previous_response_id"])
        affinity: str = request["affinity"]
        return affinity

    async def _check_chain(self, principal: Principal, response_id: str | None) -> None:
        """Refuses a chain that begins in a conversation to those who may not read conversations."""
        while response_id is not None and not principal.allows("conversations"):
            header = await self._header(principal, response_id, [response_id])
            owner = None if header is None else await self._store.owner(header)
            request = None if owner is None else await self._store.read(owner, "request")
            response_id = None if request is None else request["previous_response_id"]

    async def _append_input(self, header: Header, conversation: Owner, items: list[dict[str, Any]]) -> None:
        """Puts the input into the conversation, waiting a while for a turn that is under way."""
        deadline = time.monotonic() + self._settings.conversation_wait_seconds
        while True:
            try:
                await self._items.append(conversation, items, hold_for=header.id)
                return
            except LogGoneError as error:
                await self._discard(header)
                raise _no_conversation(header.conversation) from error
            except LogLockedError as error:
                holder = await self._store.header(error.args[0])
                if holder is None or holder.done:
                    # A run that will never write again, since its response was destroyed or given up.
                    await self._items.free(conversation.kind, conversation.id, error.args[0])
                    continue
                if time.monotonic() > deadline:
                    await self._discard(header)
                    raise Conflict(_BUSY, param="conversation", code="conversation_locked", retry_after=2) from error
            try:
                if not await self._leases.renew(KIND, header.id):
                    # This gateway stood still, and another has removed what it took for the leavings of a dead one.
                    raise Unavailable("The server was too busy to take this turn. Try again.", retry_after=2)
                await asyncio.sleep(_LOCK_POLL_SECONDS)
            except asyncio.CancelledError:
                # Its caller left or lost its credential before the turn was taken: nothing is left of it.
                await self._discard(header)
                raise

    async def _discard(self, header: Header) -> None:
        await self._store.destroy(header)
        await self._leases.release(KIND, header.id)

    async def _stored(self, response_id: str) -> Owner | None:
        header = await self._store.header(response_id)
        return None if header is None else await self._store.owner(header)

    async def _header(self, principal: Principal, response_id: str, unstored: Sequence[str]) -> Header | None:
        header = await self._store.header(response_id)
        if header is None or header.tenant != principal.tenant:
            return None
        if not header.stored and response_id not in unstored:
            return None
        if header.conversation:
            principal.require("conversations")
        return header


def _no_response(response_id: str) -> NotFound:
    return NotFound(f"Response with id '{response_id}' not found.", param="response_id")


def _no_conversation(conversation_id: str) -> NotFound:
    return NotFound(f"Conversation with id '{conversation_id}' not found.", param="conversation")
