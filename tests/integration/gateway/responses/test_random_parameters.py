"""Parameters of OpenAI's drawn at random, over HTTP: each works, or is refused by its name; never a 500."""

import json
from collections.abc import Mapping
from typing import Any

import httpx
from cloister_common.testing.llm import FakeLlm
from hypothesis import HealthCheck, given, settings
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.completion_create_params import CompletionCreateParamsNonStreaming as TextCompletionCreateParams
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

from tests.support.gateway import GatewayFixture
from tests.support.openai_parameters import bodies_of, said
from tests.support.waiting import wait_until

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
TEXT = {"model": "fake", "prompt": "hi"}
TURN = {"model": "fake", "input": "hi"}
SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def asked(url: str, headers: Mapping[str, str], body: dict[str, Any]) -> bool:
    """Whether ``body`` works. It is refused by the name of something that is in it otherwise."""
    answer = httpx.post(url, json=body, headers=headers, timeout=30)
    if answer.status_code == 200:
        assert "event: error" not in answer.text
        return True
    error = json.loads(answer.content)["error"]
    # What names something that there is not is a 404.
    assert answer.status_code == (404 if "not_found" in error["code"] else 400), error
    assert error["param"].partition(".")[0].partition("[")[0] in body, error
    return False


@SETTINGS
@given(body=bodies_of(CompletionCreateParamsNonStreaming, CHAT))
def test_any_chat_completion_works_or_is_refused_by_name(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm, body: dict[str, Any]
) -> None:
    llm.requests.clear()
    if not asked(f"{gateway_url}/v1/chat/completions", gateway.headers(), body):
        assert llm.chats() == []
        return
    sent = llm.chats()[-1]
    sampling = ("temperature", "seed", "n", "max_tokens", "max_completion_tokens", "logit_bias", "logprobs")
    for name in (*sampling, "presence_penalty", "frequency_penalty"):
        assert not said(body.get(name)) or sent[name] == body[name]


@SETTINGS
@given(body=bodies_of(TextCompletionCreateParams, TEXT))
def test_any_completion_works_or_is_refused_by_name(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm, body: dict[str, Any]
) -> None:
    llm.requests.clear()
    if not asked(f"{gateway_url}/v1/completions", gateway.headers(), body):
        return
    sent = llm.requests[-1].body
    for name in (
        "temperature",
        "seed",
        "n",
        "max_tokens",
        "logit_bias",
        "presence_penalty",
        "frequency_penalty",
        "echo",
    ):
        assert not said(body.get(name)) or sent[name] == body[name]


@SETTINGS
@given(body=bodies_of(ResponseCreateParamsNonStreaming, TURN))
def test_any_turn_works_or_is_refused_by_name(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm, body: dict[str, Any]
) -> None:
    llm.requests.clear()
    if not asked(f"{gateway_url}/v1/responses", gateway.headers(), body):
        assert llm.chats() == []
        return
    # A run in the background is asked for, and comes later.
    wait_until(lambda: llm.chats() != [] and llm.running == 0, what="the pod was asked")
    sent = llm.chats()[-1]
    assert not said(body.get("temperature")) or sent["temperature"] == body["temperature"]
    assert not said(body.get("max_output_tokens")) or sent["max_tokens"] <= body["max_output_tokens"]
    assert sent.get("top_logprobs") == (body.get("top_logprobs") or sent.get("top_logprobs"))
