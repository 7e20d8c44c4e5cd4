"""Taking a turn on: who may ask what, and nothing is acknowledged that is not durable.

What a turn meets is read in one round trip, its prompt is made, and then all of it is stored in one write
(`cloister_gateway.responses.entrance`). Until that write nothing is stored of it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from cloister_common.errors import InvalidRequest
from cloister_common.wire.filters import check_depth

from cloister_gateway.identity.principal import Principal
from cloister_gateway.models import Catalog, ChatModel
from cloister_gateway.models.abilities import check_functions
from cloister_gateway.models.images import check_images
from cloister_gateway.models.reasoning import check_effort
from cloister_gateway.models.work import WorkClass
from cloister_gateway.responses.counting import InputCount
from cloister_gateway.responses.entrance import Entrance, Turn
from cloister_gateway.responses.idempotency import Asked, IdempotencyKeys
from cloister_gateway.responses.permissions import check_permissions
from cloister_gateway.responses.reading import ResponseReader
from cloister_gateway.responses.schemas import ResponseParameters
from cloister_gateway.responses.shapes import in_force, new_request
from cloister_gateway.responses.tools import FileSearchTool, FunctionTool
from cloister_gateway.runs.acceptance import Acceptance
from cloister_gateway.runs.engine import Engine
from cloister_gateway.runs.history import HistoryReader, earlier_links
from cloister_gateway.runs.inputs import Destination, InputItems
from cloister_gateway.runs.preparation import Preparation
from cloister_gateway.runs.records import REQUEST, TurnRequest
from cloister_gateway.runs.store import ResponseStore
from cloister_gateway.storage import CONVERSATION, KeyedObject
from cloister_gateway.storage.layout import new_response_id, record_key
from cloister_gateway.usage import Generation, Meter, Used, reserved
from cloister_gateway.wire.items import Item

__all__ = ["Created", "Intake"]


class Created(NamedTuple):
    """A response that was accepted: durable, and running."""

    keyed: KeyedObject
    replayed: bool
    headers: Mapping[str, str] = {}
    """What tells its caller how it stands with its limits."""


class Intake:
    """Takes turns on.

    Args:
        reader: Finds and awaits the responses that a turn names.
        idempotency: Knows the turns that were asked before.
        acceptance: Reads what a turn meets.
        entrance: Stores turns.
        store: Has what was asked before.
        engine: Runs what was accepted.
        preparation: Makes the prompt, and says whether it fits into the model.
        history: Checks the chain before it.
        inputs: Makes stored items of what was sent.
        models: The chat models.
        meter: Says whether its caller may have it made.
    """

    def __init__(
        self,
        *,
        reader: ResponseReader,
        idempotency: IdempotencyKeys,
        acceptance: Acceptance,
        entrance: Entrance,
        store: ResponseStore,
        engine: Engine,
        preparation: Preparation,
        history: HistoryReader,
        inputs: InputItems,
        models: Catalog,
        meter: Meter,
    ) -> None:
        self._reader = reader
        self._idempotency = idempotency
        self._acceptance = acceptance
        self._entrance = entrance
        self._store = store
        self._engine = engine
        self._preparation = preparation
        self._history = history
        self._inputs = inputs
        self._models = models
        self._meter = meter

    async def create(
        self,
        principal: Principal,
        parameters: ResponseParameters,
        *,
        background: bool = False,
        work: WorkClass | None = None,
        idempotency_key: str | None = None,
        own_unstored: Sequence[str] = (),
    ) -> Created:
        """Accepts a turn: checks it, stores it, starts its run.

        Args:
            principal: Who asks.
            parameters: What for.
            background: Whether the run goes on with nobody watching.
            work: How soon it is wanted; None is what ``background`` and the parameters say.
            idempotency_key: The same key and turn again give the same response, whichever transport they come by.
            own_unstored: Responses with ``store: false`` that this caller's connection may continue.

        Raises:
            InvalidRequest, UnsupportedParameter, NotFound, Forbidden, Conflict: Nothing was stored.
            TooManyRequests: It is over a limit, or too many wait for the model.
        """
        model = self.check(principal, parameters)
        key = idempotency_key or parameters.client_request_id
        asked = None if key is None else Asked.of(principal, key, parameters, background=background)
        claim = None if asked is None else await self._idempotency.name(asked)
        conversation_id = parameters.conversation_id()
        seen = await self._acceptance.look(principal.tenant, claim, conversation_id)
        if asked is not None and claim is not None and seen.claim is not None:
            # Before the checks below: what a response was made from may be gone by now.
            earlier = await self._entrance.earlier(asked, claim, seen.claim)
            if earlier is not None:
                return Created(earlier, replayed=True)
        beside = claim if conversation_id is None else record_key(CONVERSATION, conversation_id)
        response_id = new_response_id(beside)
        parameters = in_force(parameters, model)
        conversation = await self._entrance.conversation(principal, conversation_id, seen)
        request = await self._request(
            principal, parameters, response_id, conversation, background=background, own_unstored=own_unstored
        )
        if work is not None:
            request = request.model_copy(update={"work": work})
        await self._preparation.check_room(request)
        draft = await self._preparation.draft(principal, request, seen.log)
        generation = _generation(response_id, request, principal.tenant)
        size = self._preparation.prompt_size(request, draft)
        self._preparation.check_queue(principal.tenant, request, size)
        turn = Turn(principal, parameters, background, response_id, request, asked, claim, generation, size)
        most = self._preparation.most_output_tokens(request)
        async with reserved(self._meter, generation, most_output_tokens=most, prompt=size) as reservation:
            accepted = await self._entrance.take(turn, conversation, seen, draft, reservation)
            told = await reservation.made()
        if isinstance(accepted, KeyedObject):
            self._meter.settle(generation, Used(), "cancelled")
            return Created(accepted, replayed=True)
        await self._engine.begin(accepted)
        return Created(accepted.keyed, replayed=False, headers=told)

    async def count(self, principal: Principal, parameters: ResponseParameters) -> InputCount:
        """What this turn would send now, and reserve. Nothing is stored or reserved, and nothing generated.

        Raises:
            InvalidRequest, UnsupportedParameter, NotFound, Forbidden: As `create`.
            CloisterError: The model's pods are down, or a search fails.
        """
        model = self.check(principal, parameters)
        conversation_id = parameters.conversation_id()
        seen = await self._acceptance.look(principal.tenant, None, conversation_id)
        conversation = await self._entrance.conversation(principal, conversation_id, seen)
        request = await self._request(
            principal, in_force(parameters, model), new_response_id(), conversation, background=False, own_unstored=()
        )
        tokens, parts, prompt = await self._preparation.count(principal, request, seen.log)
        return InputCount(
            tokens,
            parts,
            prompt.dropped_messages,
            _generation(new_response_id(), request, principal.tenant),
            replace(self._preparation.prompt_size(request, prompt), at_most=tokens, exact=True),
            self._preparation.most_output_tokens(request),
        )

    async def compact(self, principal: Principal, parameters: ResponseParameters) -> tuple[list[Item], Used]:
        """Sums up what was said, the input included. Nothing is stored.

        Returns:
            The user's messages with the summary of it all behind them, as items; and what it used.

        Raises:
            InvalidRequest, UnsupportedParameter, NotFound, Forbidden: As `create`.
            CloisterError: There is no summary.
        """
        model = self.check(principal, parameters)
        request = await self._request(
            principal, in_force(parameters, model), new_response_id(), None, background=False, own_unstored=()
        )
        return await self._preparation.compact(principal, request)

    async def _request(
        self,
        principal: Principal,
        parameters: ResponseParameters,
        response_id: str,
        conversation: KeyedObject | None,
        *,
        background: bool,
        own_unstored: Sequence[str],
    ) -> TurnRequest:
        """What is stored of a request, once the response that it continues has ended."""
        to = Destination("input", conversation, response_id, parameters.model, own_unstored)
        items = await self._inputs.stored(principal, parameters.input, to)
        request = new_request(response_id, parameters, items, principal, background=background)
        if parameters.context_management:
            threshold = parameters.compact_threshold(self._models.get(parameters.model).context_tokens)
            request = request.model_copy(update={"compact_threshold": threshold})
        if request.previous_response_id is None:
            return request
        previous = await self._await_previous(principal, request.previous_response_id, own_unstored)
        links = earlier_links(request.previous_response_id, previous)
        request = request.model_copy(update={"affinity": previous.affinity, "earlier": links})
        await self._history.check_links(principal.tenant, request)
        return request

    def check(self, principal: Principal, parameters: ResponseParameters) -> ChatModel:
        """The model that is asked. Raises for what can be told from the request alone."""
        check_permissions(principal, parameters)
        model = self._models.served(parameters.model, principal.tenant)
        check_effort(model, parameters.effort(), param="reasoning.effort")
        check_functions(model, given=any(isinstance(tool, FunctionTool) for tool in parameters.tools or []))
        check_images(model, parameters.images())
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


def _generation(response_id: str, request: TurnRequest, tenant: str) -> Generation:
    batch = request.work_class is WorkClass.BATCH
    return Generation(
        response_id, tenant, request.key_id, request.model, "response", request.user, int(time.time()), batch
    )
