"""Parameters of OpenAI's drawn at random: each is read, or refused by its name; nothing that was read is lost."""

from typing import Any

import pytest
from cloister_common.errors import CloisterError
from cloister_common.validation import body_error
from cloister_common.wire.requests import RequestModel, hints_of
from cloister_gateway.chat.schemas import ChatRequest
from cloister_gateway.responses.schemas import CreateResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import ValidationError

from tests.support.openai_parameters import bodies_of, said

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
TURN = {"model": "fake", "input": "hi"}
SLOW = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def read(model: type[RequestModel], body: dict[str, Any]) -> Any:
    """What ``body`` is read as; None where it is refused, by the name of something that is in it."""
    try:
        request = model.model_validate(body)
        if isinstance(request, ChatRequest):
            request.check()
    except (ValidationError, CloisterError) as error:
        told = body_error(error) if isinstance(error, ValidationError) else error
        assert told.status == 400
        assert told.param is not None
        assert told.param.partition(".")[0].partition("[")[0] in body
        return None
    return request


@SLOW
@given(body=bodies_of(CompletionCreateParamsNonStreaming, CHAT))
def test_a_chat_completion_is_sent_on_with_all_that_is_no_hint(body: dict[str, Any]) -> None:
    request = read(ChatRequest, body)
    if request is None:
        return
    sent = request.upstream_body()
    meant = {name for name, value in body.items() if said(value)} - hints_of(ChatRequest)
    meant -= {
        "stream",
        "prompt_cache_key",
        "service_tier",
    }  # (The tier goes as a priority, the key as the choice of a pod.)
    if not request.tools:
        meant -= {"tool_choice", "parallel_tool_calls"}
    if not request.logprobs:
        meant -= {"top_logprobs"}
    assert meant <= sent.keys()
    plain = {"temperature", "seed", "n", "max_tokens", "max_completion_tokens", "logit_bias", "presence_penalty"}
    assert {name: sent[name] for name in meant & plain} == {name: body[name] for name in meant & plain}


@SLOW
@given(body=bodies_of(ResponseCreateParamsNonStreaming, TURN))
def test_a_turn_is_read_with_all_that_was_said(body: dict[str, Any]) -> None:
    request = read(CreateResponse, body)
    if request is None:
        return
    assert {name for name, value in body.items() if value is not None} <= request.model_fields_set | set(
        CreateResponse.refused
    )


@pytest.mark.parametrize(
    ("model", "base"), [(ChatRequest, CHAT), (CreateResponse, TURN)], ids=lambda one: getattr(one, "__name__", "")
)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_parameter_may_be_null(model: type[RequestModel], base: dict[str, Any], data: st.DataObject) -> None:
    optional = sorted((model.model_fields.keys() | model.refused.keys()) - base.keys())
    names = data.draw(st.lists(st.sampled_from(optional), unique=True))
    assert read(model, {**base, **dict.fromkeys(names)}) == read(model, base)
