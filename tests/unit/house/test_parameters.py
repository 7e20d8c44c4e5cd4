"""Each parameter of OpenAI's requests is decided on: honoured, a hint, or refused by name with a sentence.

The openai package is the list of them: a new version of it with a parameter that nobody has decided on fails here.
"""

import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest
import typing_extensions
from cloister_common.validation import body_error
from cloister_common.wire.requests import Extension, Hint, RequestModel, mark_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types import (
    BatchCreateParams,
    EmbeddingCreateParams,
    UploadCompleteParams,
    UploadCreateParams,
    VectorStoreCreateParams,
    VectorStoreSearchParams,
    VectorStoreUpdateParams,
)
from openai.types.admin.organization import (
    AdminAPIKeyCreateParams,
    ProjectCreateParams,
    ProjectUpdateParams,
    SpendAlertCreateParams,
    SpendLimitUpdateParams,
)
from openai.types.admin.organization.projects import RateLimitUpdateRateLimitParams, ServiceAccountCreateParams
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.completion_create_params import CompletionCreateParamsNonStreaming as TextCompletionCreateParams
from openai.types.conversations import ConversationCreateParams, ConversationUpdateParams, ItemCreateParams
from openai.types.responses.input_token_count_params import InputTokenCountParams
from openai.types.responses.response_compact_params import ResponseCompactParams
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from openai.types.responses.responses_client_event_param import ResponseCreate
from openai.types.vector_stores import FileBatchCreateParams, FileCreateParams, FileUpdateParams
from pydantic import ValidationError

from deploy.docs.parameters import BODIES, Parameter, parameters_of
from tests.support.openai_parameters import bodies_of
from tests.support.routes import bodies

OPENAI: dict[str, Any] = {
    "POST /v1/responses": ResponseCreateParamsNonStreaming,
    "response.create on a WebSocket": ResponseCreate,
    "POST /v1/responses/input_tokens": InputTokenCountParams,
    "POST /v1/responses/compact": ResponseCompactParams,
    "POST /v1/chat/completions": CompletionCreateParamsNonStreaming,
    "POST /v1/completions": TextCompletionCreateParams,
    "POST /v1/embeddings": EmbeddingCreateParams,
    "POST /v1/conversations": ConversationCreateParams,
    "POST /v1/conversations/{id}": ConversationUpdateParams,
    "POST /v1/conversations/{id}/items": ItemCreateParams,
    "POST /v1/uploads": UploadCreateParams,
    "POST /v1/uploads/{id}/complete": UploadCompleteParams,
    "POST /v1/vector_stores": VectorStoreCreateParams,
    "POST /v1/vector_stores/{id}": VectorStoreUpdateParams,
    "POST /v1/vector_stores/{id}/search": VectorStoreSearchParams,
    "POST /v1/vector_stores/{id}/files": FileCreateParams,
    "POST /v1/vector_stores/{id}/files/{file_id}": FileUpdateParams,
    "POST /v1/vector_stores/{id}/file_batches": FileBatchCreateParams,
    "POST /v1/batches": BatchCreateParams,
    "POST /v1/organization/projects": ProjectCreateParams,
    "POST /v1/organization/projects/{id}": ProjectUpdateParams,
    "POST /v1/organization/admin_api_keys": AdminAPIKeyCreateParams,
    "POST …/service_accounts": ServiceAccountCreateParams,
    "POST …/rate_limits/{id}": RateLimitUpdateRateLimitParams,
    "POST …/spend_limit": SpendLimitUpdateParams,
    "POST …/spend_alerts": SpendAlertCreateParams,
}
LEAST: dict[str, dict[str, Any]] = {
    "POST /v1/responses/input_tokens": {"model": "m", "input": "x"},
    "POST /v1/responses/compact": {"model": "m", "input": "x"},
    "response.create on a WebSocket": {"type": "response.create", "model": "m", "input": "x"},
    "POST /v1/completions": {"model": "m", "prompt": "x"},
    "POST /v1/embeddings": {"model": "m", "input": "x"},
    "POST /v1/conversations/{id}": {"metadata": {}},
    "POST /v1/conversations/{id}/items": {"items": [{"role": "user", "content": "x"}]},
    "POST /v1/uploads": {"bytes": 1, "filename": "f", "mime_type": "text/plain", "purpose": "assistants"},
    "POST /v1/uploads/{id}/complete": {"part_ids": ["p"]},
    "POST /v1/vector_stores/{id}/search": {"query": "x"},
    "POST /v1/vector_stores/{id}/files": {"file_id": "f"},
    "POST /v1/vector_stores/{id}/files/{file_id}": {"attributes": None},
    "POST /v1/vector_stores/{id}/file_batches": {"file_ids": ["f"]},
    "POST /v1/batches": {"input_file_id": "f", "endpoint": "/v1/responses", "completion_window": "24h"},
    "POST /v1/organization/projects": {"name": "n"},
    "POST /v1/organization/projects/{id}": {"name": "n"},
    "POST /v1/organization/admin_api_keys": {"name": "n"},
    "POST …/service_accounts": {"name": "n"},
    "POST …/spend_limit": {"currency": "USD", "interval": "month", "threshold_amount": 1},
    "POST …/spend_alerts": {
        "currency": "USD",
        "interval": "month",
        "threshold_amount": 1,
        "notification_channel": {"type": "email", "recipients": ["a@example.org"]},
    },
}
"""A body that works, where an empty one does not."""
DRAWN_ELSEWHERE = {"POST /v1/responses", "POST /v1/chat/completions"}
OURS = {
    "POST /v1/rerank",
    "POST …/service_accounts/{id}/api_keys",
    "POST /cloister/v1/adapters",
    "POST /cloister/v1/socket-tickets",
    "POST /cloister/v1/plans/usage",
    "POST /cloister/v1/plans/usage/observed",
    "POST /cloister/v1/models",
    "POST …/history_policy",
    "POST /cloister/v1/vector_stores/{id}/reembed",
}
NOT_IN_THE_BODY = {
    ("POST /v1/vector_stores/{id}/files/{file_id}", "vector_store_id"),
    ("POST …/rate_limits/{id}", "project_id"),
}
IN_THE_QUERY = {("POST /v1/conversations/{id}/items", "include")}


def params_in(annotation: Any) -> Iterator[Any]:
    if typing_extensions.is_typeddict(annotation):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from params_in(argument)


def models_in(annotation: Any) -> Iterator[type[RequestModel]]:
    if isinstance(annotation, type) and issubclass(annotation, RequestModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def pairs(title: str, model: type[RequestModel], params: Any) -> Iterator[tuple[str, type[RequestModel], Any]]:
    """The model with OpenAI's type, and the same of each value that is an object of one kind on both sides."""
    yield title, model, params
    theirs = typing_extensions.get_type_hints(params)
    for name, field in model.model_fields.items():
        path = f"{title}: {field.alias or name}"
        inside = list(models_in(field.annotation)), list(params_in(theirs.get(field.alias or name)))
        if [len(side) for side in inside] == [1, 1] and inside[0][0] is not model:
            yield from pairs(path, inside[0][0], inside[1][0])


PAIRS = [pair for title, params in OPENAI.items() for pair in pairs(title, BODIES[title], params)]


@pytest.mark.parametrize(("place", "model", "params"), PAIRS, ids=[place for place, _, _ in PAIRS])
def test_every_parameter_of_openais_is_decided_on_and_every_other_is_called_an_extension(
    place: str, model: type[RequestModel], params: Any
) -> None:
    theirs = set(typing_extensions.get_type_hints(params))
    theirs -= {name for where, name in NOT_IN_THE_BODY | IN_THE_QUERY if where == place}
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    assert theirs - fields.keys() - model.refused.keys() == set()
    extensions = {name for name, field in fields.items() if isinstance(mark_of(field), Extension)}
    assert fields.keys() - theirs == extensions


def test_the_values_inside_are_compared_too() -> None:
    places = {place for place, _, _ in PAIRS}
    assert {"POST /v1/responses: text", "POST /v1/chat/completions: stream_options"} <= places


def test_every_body_of_a_route_is_on_the_page() -> None:
    models = {model for path, models in bodies().items() if not path.startswith("/internal") for model in models}
    assert models - set(BODIES.values()) == set()
    assert OPENAI.keys() | OURS == BODIES.keys()


@pytest.mark.parametrize("title", BODIES)
def test_every_refusal_hint_and_extension_has_a_sentence(title: str) -> None:
    for path, treated, sentence in parameters_of(BODIES[title]):
        assert sentence or treated == "honoured" or "extension" in treated, path
        assert not sentence or sentence.endswith((".", ")")), path


@pytest.mark.parametrize("title", sorted(OPENAI.keys() - DRAWN_ELSEWHERE))
@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_value_of_a_parameter_is_read_or_refused_by_its_place(title: str, data: st.DataObject) -> None:
    body = data.draw(bodies_of(OPENAI[title], LEAST.get(title, {})))
    try:
        BODIES[title].model_validate(body)
    except ValidationError as error:
        told = body_error(error)
        assert told.param is not None
        assert re.split(r"[.\[]", told.param)[0] in body


class Inner(RequestModel):
    refused: ClassVar[Mapping[str, str]] = {"sum": "There is no sum. Leave it out."}

    kind: typing.Annotated[str | None, Hint("There is one kind.")] = None
    size: int = 3


class Example(RequestModel):
    refused: ClassVar[Mapping[str, str]] = {"tune": "Nothing is tuned. Send 'pitch'."}

    pitch: float | None = None
    inner: typing.Annotated[list[Inner] | None, Extension("vLLM")] = None


def test_a_page_has_the_marks_and_sentences_of_the_model() -> None:
    assert parameters_of(Example) == [
        Parameter("pitch", "honoured", ""),
        Parameter("inner", "extension (vLLM)", ""),
        Parameter("inner[].kind", "hint", "There is one kind."),
        Parameter("inner[].sum", "refused", "There is no sum. Leave it out."),
        Parameter("tune", "refused", "Nothing is tuned. Send 'pitch'."),
    ]


def refusal(**body: Any) -> tuple[str | None, str, str]:
    with pytest.raises(ValidationError) as found:
        Example.model_validate(body)
    error = body_error(found.value)
    return error.param, error.error_code, error.message


def test_what_is_refused_is_told_with_its_sentence_wherever_it_stands() -> None:
    said = "Unsupported parameter: 'tune'. Nothing is tuned. Send 'pitch'."
    assert refusal(tune=1) == ("tune", "unsupported_parameter", said)
    assert refusal(inner=[{}, {"sum": {}}])[0] == "inner[1].sum"
    flood = {f"name{number}": number for number in range(1000)}
    assert refusal(**flood, tune=1)[0] == "tune"


def test_null_stands_for_the_default_at_every_level_and_empty_lists_ask_for_nothing() -> None:
    body = {"pitch": None, "tune": None, "inner": [{"kind": None, "size": None, "sum": None}]}
    read = Example.model_validate(body)
    assert read.inner == [Inner()]
    assert Example.model_validate({"tune": []}) == Example()
    # Where null is what the type takes, that it was sent may mean something.
    assert read.model_fields_set == {"pitch", "inner"}


def test_no_model_takes_null_for_a_field_of_another_type() -> None:
    for model in BODIES.values():
        for name, field in model.model_fields.items():
            if not field.is_required():
                assert field.default is None or (field.alias or name) in model.null_passes
