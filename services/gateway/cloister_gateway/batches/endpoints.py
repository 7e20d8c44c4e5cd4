"""What lines of batches ask for: each goes through what its route goes through, as whoever created the batch.

A line is checked before any is done, and then answered; both with the request models and services of its route. What a
batch cannot do is refused by its name: a stream has nobody to go to, and neither has what runs in the background.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import orjson
from cloister_common.errors import CloisterError, UnsupportedParameter
from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from cloister_common.validation import body_error
from cloister_common.wire.embeddings import EmbeddingRequest
from cloister_common.wire.models import model_not_found
from pydantic import BaseModel, ValidationError

from cloister_gateway.admission import Admission
from cloister_gateway.batches.lines import Request
from cloister_gateway.batches.records import Tokens
from cloister_gateway.chat.schemas import ChatRequest
from cloister_gateway.chat.service import ChatService
from cloister_gateway.embeddings.service import EmbeddingService
from cloister_gateway.embeddings.vocabulary import holds_tokens
from cloister_gateway.identity.principal import Principal
from cloister_gateway.models.work import WorkClass
from cloister_gateway.responses.schemas import CreateResponse
from cloister_gateway.responses.service import ResponseService
from cloister_gateway.storage.client import REDIS_AWAY

__all__ = ["Answer", "ChatLines", "EmbeddingLines", "Endpoint", "Over", "ResponseLines", "Unanswered"]

log = get_logger(__name__)

M = TypeVar("M", bound=BaseModel)

Over = Callable[[], bool]
"""Whether a batch is over: cancelled, or out of time."""


class Answer(NamedTuple):
    """An answer of an endpoint: its body, and the tokens that it used."""

    body: bytes
    used: Tokens


class Unanswered(CloisterError):
    """A response that failed: its run has told why, in a body of its own.

    Args:
        body: The response.
        message, code: Of its error.
    """

    def __init__(self, body: dict[str, Any], message: str, code: str) -> None:
        super().__init__(message, code=code)
        self.response = body

    def body(self) -> dict[str, Any]:
        return self.response


class Refused(Unanswered):
    """One that would fail again: its prompt is not one that the model can be given."""

    status = 400
    type = "invalid_request_error"


class Endpoint(Protocol):
    """What lines may ask for."""

    scope: str

    def check(self, caller: Principal, request: Request, known: frozenset[str] | None) -> str:
        """The model that a line asks for.

        Args:
            caller: Who asks.
            request: The line.
            known: The models of the embedder, if they are known.

        Raises:
            CloisterError: It would be refused.
        """
        ...

    async def answer(self, caller: Principal, request: Request, name: str, over: Over) -> Answer:
        """The answer to a line. Asked for again under the same ``name`` it is not made twice where that can be told.

        Args:
            caller: Who asks.
            request: The line.
            name: What it is known by.
            over: If this is cancelled, whether nobody wants the answer any more; else another gateway goes on with it.

        Raises:
            CloisterError: It was refused, or failed.
        """
        ...


def _read(model: type[M], value: Mapping[str, Any]) -> M:
    """The body of a line. Raises `InvalidRequest` that names the field, as in the body of a request."""
    for name in ("stream", "background"):
        if value.get(name):
            raise UnsupportedParameter(name, f"A line of a batch cannot be asked for with '{name}'. Leave it out.")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise body_error(error) from None


class ChatLines:
    """Chat completions."""

    scope = "chat"

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def check(self, caller: Principal, request: Request, known: frozenset[str] | None) -> str:
        body = _read(ChatRequest, request.value)
        self._service.check(caller, body)
        return body.model

    async def answer(self, caller: Principal, request: Request, name: str, over: Over) -> Answer:
        body = _read(ChatRequest, request.value)
        # (It takes no place of this gateway: it waits among its kind for its model, and they are few.)
        call = await self._service.prepare(caller, body, len(request.body), work=WorkClass.BATCH)
        answer = await self._service.complete(call)
        return Answer(answer, _used(orjson.loads(answer).get("usage"), "prompt", "completion"))


class EmbeddingLines:
    """Embeddings."""

    scope = "embeddings"

    def __init__(self, service: EmbeddingService, admission: Admission) -> None:
        self._service = service
        self._admission = admission

    def check(self, caller: Principal, request: Request, known: frozenset[str] | None) -> str:
        body = _read(EmbeddingRequest, request.value)
        if not holds_tokens(body.input):
            body.inputs()  # Raises for what the embedder would refuse, too many or empty ones for example.
        if known is not None and body.model not in known:
            raise model_not_found(body.model)
        return body.model

    async def answer(self, caller: Principal, request: Request, name: str, over: Over) -> Answer:
        body = _read(EmbeddingRequest, request.value)
        async with _placed(self._admission, caller):
            answer = await self._service.embed(caller, body, request.body)
        return Answer(answer.content, _used(orjson.loads(answer.content).get("usage"), "prompt", "completion"))


class ResponseLines:
    """Responses, stored as each line asks.

    Args:
        service: Makes them.
        admission: Has the places.
        supervisor: Runs what stops them.
    """

    scope = "responses"

    def __init__(self, service: ResponseService, admission: Admission, supervisor: Supervisor) -> None:
        self._service = service
        self._admission = admission
        self._supervisor = supervisor

    def check(self, caller: Principal, request: Request, known: frozenset[str] | None) -> str:
        body = _read(CreateResponse, request.value)
        self._service.check(caller, body)
        return body.model

    async def answer(self, caller: Principal, request: Request, name: str, over: Over) -> Answer:
        body = _read(CreateResponse, request.value)
        async with self._admission.accepting(caller.tenant):
            # (Under its name a line that was under way when its gateway died finds the run that was begun for it.)
            created = await self._service.create(caller, body, idempotency_key=name, work=WorkClass.BATCH)
        try:
            response = await self._service.finish(created.keyed)
        except asyncio.CancelledError:
            if over():
                self._supervisor.spawn("batch-line-cancelled", self._cancel(caller, created.keyed.id))
            raise
        if response["status"] in {"failed", "cancelled"}:
            error = response.get("error") or {}
            message = error.get("message") or "The response was cancelled."
            await self._forget(caller, created.keyed.id)
            code = error.get("code") or "response_cancelled"
            raise (Refused if code == "invalid_prompt" else Unanswered)(response, message, code)
        return Answer(orjson.dumps(response), _used(response.get("usage"), "input", "output"))

    async def _cancel(self, caller: Principal, response_id: str) -> None:
        with contextlib.suppress(CloisterError, *REDIS_AWAY):
            await self._service.request_cancel(caller, response_id, unstored=[response_id])

    async def _forget(self, caller: Principal, response_id: str) -> None:
        """Deletes a response that failed: its line is asked for again, or tells of it."""
        with contextlib.suppress(CloisterError, *REDIS_AWAY):
            await self._service.delete(caller, response_id)


@contextlib.asynccontextmanager
async def _placed(admission: Admission, caller: Principal) -> Any:
    """A place for a generation while the block runs, waited for as any other."""
    place = admission.ask(caller.tenant)
    await place.wait()
    try:
        yield
    finally:
        place.give_back()


def _used(usage: Mapping[str, Any] | None, read: str, written: str) -> Tokens:
    """What an answer says it used, in the words of its endpoint."""
    said = usage or {}
    return Tokens(
        read=said.get(f"{read}_tokens") or 0,
        cached=(said.get(f"{read}_tokens_details") or {}).get("cached_tokens") or 0,
        written=said.get(f"{written}_tokens") or 0,
        reasoning=(said.get(f"{written}_tokens_details") or {}).get("reasoning_tokens") or 0,
    )
