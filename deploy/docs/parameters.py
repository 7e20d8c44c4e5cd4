"""docs/parameters.md: how each parameter of each request is treated, read from the request models.

A field says it itself: its mark (`cloister_common.wire.requests`) and its description; what is not served stands with
its sentence in the model's ``refused``. So the page cannot say anything else than what happens.
"""

import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cloister_common.wire.embeddings import EmbeddingRequest
from cloister_common.wire.requests import Extension, Hint, RequestModel, mark_of
from cloister_common.wire.rerank import RerankRequest
from cloister_common.wire.search import StoreSearch
from cloister_gateway.batches.schemas import BatchCreate
from cloister_gateway.chat.schemas import ChatRequest
from cloister_gateway.completions.schemas import CompletionRequest
from cloister_gateway.conversations.schemas import CreateConversation, CreateItems, UpdateConversation
from cloister_gateway.limits.history_routes import HistoryPolicyUpdate
from cloister_gateway.limits.schemas import RateLimitUpdate, SpendAlertUpdate, SpendLimitUpdate
from cloister_gateway.models.adapters.schemas import AdapterCreate
from cloister_gateway.models.schemas import ModelEntry
from cloister_gateway.organization.schemas import (
    AccountCreate,
    AdminKeyCreate,
    KeyCreate,
    ProjectCreate,
    ProjectUpdate,
)
from cloister_gateway.planning import UsageQuestion
from cloister_gateway.planning.observed import ObservedQuestion
from cloister_gateway.responses.schemas import CompactInput, CountInput, CreateResponse, SocketCreate
from cloister_gateway.sockets.tickets import TicketCreate
from cloister_retriever.reembedding.schemas import Reembed
from cloister_retriever.uploads.schemas import CompleteUpload, CreateUpload
from cloister_retriever.vector_stores.schemas import (
    AttachFile,
    CreateBatch,
    CreateStore,
    UpdateAttributes,
    UpdateStore,
)

__all__ = ["BEGIN", "BODIES", "END", "PAGE", "Parameter", "page", "parameters_of"]

PAGE = Path(__file__).parents[2] / "docs" / "parameters.md"
BEGIN, END = "<!-- parameters: made by make docs -->", "<!-- end of parameters -->"

BODIES: Mapping[str, type[RequestModel]] = {
    "POST /v1/responses": CreateResponse,
    "response.create on a WebSocket": SocketCreate,
    "POST /v1/responses/input_tokens": CountInput,
    "POST /v1/responses/compact": CompactInput,
    "POST /v1/chat/completions": ChatRequest,
    "POST /v1/completions": CompletionRequest,
    "POST /v1/embeddings": EmbeddingRequest,
    "POST /v1/rerank": RerankRequest,
    "POST /v1/conversations": CreateConversation,
    "POST /v1/conversations/{id}": UpdateConversation,
    "POST /v1/conversations/{id}/items": CreateItems,
    "POST /v1/uploads": CreateUpload,
    "POST /v1/uploads/{id}/complete": CompleteUpload,
    "POST /v1/vector_stores": CreateStore,
    "POST /v1/vector_stores/{id}": UpdateStore,
    "POST /v1/vector_stores/{id}/search": StoreSearch,
    "POST /v1/vector_stores/{id}/files": AttachFile,
    "POST /v1/vector_stores/{id}/files/{file_id}": UpdateAttributes,
    "POST /v1/vector_stores/{id}/file_batches": CreateBatch,
    "POST /v1/batches": BatchCreate,
    "POST /v1/organization/projects": ProjectCreate,
    "POST /v1/organization/projects/{id}": ProjectUpdate,
    "POST /v1/organization/admin_api_keys": AdminKeyCreate,
    "POST …/service_accounts": AccountCreate,
    "POST …/service_accounts/{id}/api_keys": KeyCreate,
    "POST /cloister/v1/adapters": AdapterCreate,
    "POST …/rate_limits/{id}": RateLimitUpdate,
    "POST …/spend_limit": SpendLimitUpdate,
    "POST …/spend_alerts": SpendAlertUpdate,
    "POST /cloister/v1/socket-tickets": TicketCreate,
    "POST /cloister/v1/plans/usage": UsageQuestion,
    "POST /cloister/v1/plans/usage/observed": ObservedQuestion,
    "POST /cloister/v1/models": ModelEntry,
    "POST …/history_policy": HistoryPolicyUpdate,
    "POST /cloister/v1/vector_stores/{id}/reembed": Reembed,
}
"""Each request that has a JSON body, by what it is called on the page."""

_LIKE = {
    "response.create on a WebSocket": "POST /v1/responses",
    "POST /v1/responses/input_tokens": "POST /v1/responses",
    "POST /v1/responses/compact": "POST /v1/responses",
}
"""Of what is all but the same as another, only the difference stands on the page."""

_NAME = re.compile(r"'([a-z_./ 0-9]+)'")
_AS_OPENAI = "As in OpenAI's reference."


class Parameter(NamedTuple):
    """One row: a parameter by its path in the body, how it is treated, and what there is to say of it."""

    path: str
    treated: str
    sentence: str


def parameters_of(model: type[RequestModel]) -> list[Parameter]:
    """The parameters of ``model`` in its order, and below each what there is to say of the fields of its value."""
    # Kinds of items and tools have fields in common.
    return list(dict.fromkeys(_below(model, "", ())))


def _below(model: type[RequestModel], prefix: str, around: tuple[type[RequestModel], ...]) -> Iterator[Parameter]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        said = " ".join((field.description or "").split())
        match mark_of(field):
            case Hint(why):
                yield Parameter(path, "hint", why)
            case Extension(origin):
                yield Parameter(path, f"extension ({origin})", said)
            case _ if said or not prefix:
                yield Parameter(path, "honoured", said)
        for inner, place in _models_in(field.annotation):
            if inner not in (*around, model):
                yield from _below(inner, f"{path}{place}.", (*around, model))
    for name, why in model.refused.items():
        yield Parameter(f"{prefix}{name}", "refused", why)


def _models_in(annotation: Any, place: str = "") -> Iterator[tuple[type[RequestModel], str]]:
    """The request models that a value may be, with ``[]`` where they are the elements of a list."""
    if isinstance(annotation, type) and issubclass(annotation, RequestModel):
        yield annotation, place
    inner = "[]" if typing.get_origin(annotation) is list else place
    for argument in typing.get_args(annotation):
        yield from _models_in(argument, inner)


def _section(title: str) -> str:
    parameters = parameters_of(BODIES[title])
    like = _LIKE.get(title)
    if like is None:
        return f"## {title}\n\n{_table(parameters)}"
    others = parameters_of(BODIES[like])
    return f"## {title}\n\nAs `{like}`, but:\n\n{_table([one for one in parameters if one not in others])}"


def _table(parameters: Sequence[Parameter]) -> str:
    rows = ["| Parameter | Treated as | How, or why |", "| --- | --- | --- |"]
    plain = [one.path for one in parameters if one.treated == "honoured" and not one.sentence]
    if plain:
        rows.append(f"| {', '.join(f'`{path}`' for path in plain)} | honoured | {_AS_OPENAI} |")
    for path, treated, sentence in parameters:
        if treated != "honoured" or sentence:
            rows.append(f"| `{path}` | {treated} | {_quoted(sentence)} |")
    return "\n".join(rows)


def _quoted(sentence: str) -> str:
    """Errors put names between apostrophes, pages between backquotes."""
    return _NAME.sub(r"`\1`", sentence).replace("|", "\\|")


def page() -> str:
    """docs/parameters.md as it should be: what stands between the marks is replaced."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} must have the marks {BEGIN} and {END}")
    sections = [_section(title) for title in BODIES]
    return f"{before}{BEGIN}\n\n" + "\n\n".join(sections) + f"\n\n{END}{after}"
