"""Completions of texts through the unmodified OpenAI SDK, with a pod that behaves as told."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from openai.types import Completion

from tests.support.gateway import GatewayFixture
from tests.support.waiting import wait_until

ANSWER = "Hello, this is the fake."


@pytest.fixture
def client(gateway: GatewayFixture, gateway_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key=gateway.project_key, max_retries=0) as made:
        yield made


def sent(llm: FakeLlm) -> dict[str, Any]:
    return next(request.body for request in llm.requests if request.path == "/v1/completions")


def post(url: str, gateway: GatewayFixture, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/completions", headers=gateway.headers(), json={"model": "fake", **body})


def test_a_text_goes_on(client: openai.OpenAI, llm: FakeLlm) -> None:
    answer = client.completions.create(
        model="fake", prompt="<|im_start|>Once", temperature=0, top_p=0, seed=7, stop="\n", user="somebody"
    )
    assert (answer.object, answer.model, answer.choices[0].text) == ("text_completion", "fake", ANSWER)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, 7)
    body = sent(llm)
    assert (body["prompt"], body["max_tokens"], body["seed"], body["stop"]) == ("<|im_start|>Once", 16, 7, ["\n"])
    assert 0 < body["top_p"] < 1e-3
    assert len(body["cache_salt"]) == 64
    assert "user" not in body


def test_an_answer_has_the_fields_of_openais_and_no_others(gateway: GatewayFixture, gateway_url: str) -> None:
    answer = post(gateway_url, gateway, prompt="Once", logprobs=1).json()
    assert answer.keys() == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    (choice,) = answer["choices"]
    assert choice.keys() == {"index", "text", "logprobs", "finish_reason"}
    assert choice["logprobs"].keys() == {"text_offset", "token_logprobs", "tokens", "top_logprobs"}
    Completion.model_validate(answer, strict=True)
    stream = post(gateway_url, gateway, prompt="Once", stream=True, stream_options={"include_obfuscation": False}).text
    assert stream.endswith("data: [DONE]\n\n")
    for name in ("token_ids", "stop_reason", "prompt_token_ids"):
        assert name not in stream


def test_texts_and_choices_are_numbered_as_openai_does(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="fake", prompt=["one", "two"], n=2, echo=True, max_tokens=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == ["oneHello", "oneHello", "twoHello", "twoHello"]
    assert {choice.finish_reason for choice in answer.choices} == {"length"}


def test_a_stream_carries_every_token_and_the_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.completions.create(
            model="fake", prompt="Once", stream=True, logprobs=0, stream_options={"include_usage": True}
        )
    )
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-2:] == [None, "stop"]
    assert chunks[0].choices[0].logprobs is not None
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 7
    assert {chunk.object for chunk in chunks} == {"text_completion"}


def test_the_first_token_arrives_before_the_last_and_who_leaves_ends_it(client: openai.OpenAI, llm: FakeLlm) -> None:
    llm.hold_after = 2
    with client.completions.create(model="fake", prompt="Once", stream=True) as stream:
        assert [next(stream).choices[0].text for _ in range(2)] == ["Hello", ","]
    wait_until(lambda: llm.running == 0 and llm.aborted == 1, what="the abort")


def test_vllms_fields_reach_the_pod(client: openai.OpenAI, llm: FakeLlm) -> None:
    fields = {"ignore_eos": True, "min_tokens": 3, "top_k": 4, "min_p": 0.1, "repetition_penalty": 1.1}
    client.completions.create(model="fake", prompt="Once", best_of=1, extra_body=fields)
    body = sent(llm)
    assert {name: body[name] for name in fields} == fields
    assert "best_of" not in body


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt[1]"),
        ({"prompt": [1, 2]}, "prompt[0]"),
        ({"prompt": [[1], [2]]}, "prompt[0]"),
        ({"prompt": ["a", True]}, "prompt[1]"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "min_tokens": 17}, "min_tokens"),
        ({"prompt": "a", "n": 9}, "n"),
        ({"prompt": "a", "logprobs": 21}, "logprobs"),
        ({"prompt": "a", "logprobs": True}, "logprobs"),
        ({"prompt": "a", "stream_options": {"include_usage": True}}, "stream_options"),
        ({"prompt": "a", "cache_salt": "mine"}, "cache_salt"),
        ({"prompt": "a", "prompt_embeds": "x"}, "prompt_embeds"),
        ({"prompt": "a", "messages": []}, "messages"),
    ],
)
def test_a_wrong_request_names_its_field(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm, body: dict[str, Any], param: str
) -> None:
    answer = post(gateway_url, gateway, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert llm.requests == []


def test_nulls_say_nothing(gateway: GatewayFixture, gateway_url: str, llm: FakeLlm) -> None:
    names = ("best_of", "echo", "logit_bias", "logprobs", "max_tokens", "n", "seed", "stop", "stream", "suffix", "user")
    assert post(gateway_url, gateway, prompt="a", **dict.fromkeys(names)).status_code == 200
    assert sent(llm).keys() == {"model", "prompt", "max_tokens", "temperature", "top_p", "stream", "cache_salt"}


def test_a_text_over_the_context_names_the_prompt(client: openai.OpenAI, llm: FakeLlm) -> None:
    llm.context_tokens = 10
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="fake", prompt="word " * 20)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")


def test_a_key_that_keeps_its_state_on_the_server_cannot_send_prompts(
    gateway: GatewayFixture, gateway_url: str, client: openai.OpenAI
) -> None:
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="x", admin_api_key=gateway.admin_key) as admin:
        accounts = admin.admin.organization.projects.service_accounts
        project = admin.admin.organization.projects.create(name="web")
        account = accounts.create(project.id, name="frontend")
        fenced = accounts.api_keys.create(account.id, project_id=project.id, scopes=["server_state_only"])
        narrow = accounts.api_keys.create(account.id, project_id=project.id, scopes=["responses"])
    for key, code in ((fenced, "server_state_only"), (narrow, "insufficient_permissions")):
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.with_options(api_key=key.value).completions.create(model="fake", prompt="Once")
        assert caught.value.code == code
