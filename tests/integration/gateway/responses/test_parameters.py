"""What a request may carry: nothing is ignored, what we do not serve is named, and null says nothing."""

from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm

from tests.integration.gateway.conftest import Installation, sdk
from tests.support.gateway import GatewayFixture
from tests.support.sdk import closing

FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
SEARCH = {"type": "file_search", "vector_store_ids": ["vs"]}
ALLOWED = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}
LARGE: dict[str, Any] = {"enum": list(range(1001))}
NESTED: dict[str, Any] = {"type": "eq", "key": "k", "value": 1}
for _ in range(9):
    NESTED = {"type": "and", "filters": [NESTED]}

UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"modalities": ["text"]}, "modalities"),
    ({"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options.prewarm"),
    ({"moderation": {"model": "x"}}, "moderation"),
    ({"image": {"context_compression": "enabled"}}, "image.context_compression"),
    ({"access_programs": {"cyber": "daybreak_red"}}, "access_programs.cyber"),
    ({"text": {"verbosity": "low"}}, "text.verbosity"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ({"tools": [{**FUNCTION, "defer_loading": True}]}, "tools[0].defer_loading"),
    ({"tools": [{"type": "custom", "name": "c"}]}, "tools[0].type"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "file_search", "vector_store_ids": ["vs"], "boost": 2}]}, "tools[0].boost"),
    ({"tools": [{**SEARCH, "ranking_options": {"ranker": "default-2019-01-01"}}]}, "tools[0].ranking_options.ranker"),
    ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    ({"tool_choice": "any"}, "tool_choice"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]}]},
        "input[0].content[0].type",
    ),
    ({"input": [{"role": "user", "content": [{"type": "input_audio", "data": "d"}]}]}, "input[0].content[0].type"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://a.example/b"}]}]},
        "input[0].content[0].file_url",
    ),
    ({"input": [{"type": "computer_call_output", "call_id": "c", "output": "o"}]}, "input[0].type"),
    ({"input": [{"role": "user", "content": "x", "name": "n"}]}, "input[0].name"),
    # What could rewrite the prompt or reach vLLM past us.
    ({"cache_salt": "x"}, "cache_salt"),
    ({"chat_template": "x"}, "chat_template"),
    ({"prompt_token_ids": [1]}, "prompt_token_ids"),
    ({"priority": 1}, "priority"),
    ({"continue_final_message": True}, "continue_final_message"),
    ({"messages": []}, "messages"),
    ({"seed": 1}, "seed"),
    ({"stream_id": "lane"}, "stream_id"),
]

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"input": ""}, "input"),
    ({"input": []}, "input"),
    ({"input": 5}, "input"),
    ({"input": "x" * 1_000_001}, "input"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
    ({"model": None}, "model"),
    ({"temperature": 3}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"service_tier": "first"}, "service_tier"),
    ({"include": ["all"]}, "include[0]"),
    ({"top_p": "0.5"}, "top_p"),
    ({"max_output_tokens": "8"}, "max_output_tokens"),
    ({"store": "no"}, "store"),
    ({"background": 1}, "background"),
    ({"tools": [{**SEARCH, "max_num_results": "3"}]}, "tools[0].max_num_results"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ({"metadata": {f"k{n}": "v" for n in range(17)}}, "metadata"),
    ({"truncation": "middle"}, "truncation"),
    ({"conversation": {}}, "conversation.id"),
    ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools[0].vector_store_ids"),
    ({"tools": [{**SEARCH, "filters": {"type": "like"}}]}, "tools[0].filters.type"),
    ({"tools": [{**SEARCH, "filters": NESTED}]}, "tools[0].filters"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
    ({"tool_choice": {"type": "function", "name": "g"}, "tools": [FUNCTION]}, "tool_choice.name"),
    (
        {"tool_choice": {**ALLOWED, "tools": [{"type": "file_search"}]}, "tools": [FUNCTION]},
        "tool_choice.tools[0].type",
    ),
    ({"tool_choice": {**ALLOWED, "mode": "none"}, "tools": [FUNCTION]}, "tool_choice.mode"),
    ({"max_tool_calls": 0}, "max_tool_calls"),
    ({"tools": [SEARCH, SEARCH]}, "tools"),
    ({"tools": [SEARCH, {**FUNCTION, "parameters": {"$ref": "#"}}]}, "tools[1].parameters"),
    ({"tools": [{**FUNCTION, "parameters": LARGE}]}, "tools[0].parameters"),
    ({"tools": [{**FUNCTION, "parameters": {"type": "array"}}]}, "tools[0].parameters"),
    ({"tools": [{**FUNCTION, "name": "a b"}]}, "tools[0].name"),
    ({"input": [{"type": "function_call_output", "call_id": "c", "output": "o"}]}, "input[0].call_id"),
    ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]}, "input"),
    ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "previous_response_id"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
    ({"text": {"format": {"type": "text", "name": "n"}}}, "text.format"),
    ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"$ref": "#"}}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_schema", "name": "n", "schema": LARGE}}}, "text.format.schema"),
    ({"background": True, "store": False}, "store"),
]


def create(url: str, gateway: GatewayFixture, more: dict[str, Any]) -> httpx.Response:
    body = {"model": "fake", "input": "hi", **more}
    return httpx.post(f"{url}/v1/responses", json=body, headers=gateway.headers())


@pytest.mark.parametrize(("more", "param"), UNSUPPORTED, ids=[param for _, param in UNSUPPORTED])
def test_what_is_not_served_is_refused_by_name(
    more: dict[str, Any], param: str, gateway: GatewayFixture, gateway_url: str, llm: FakeLlm
) -> None:
    answer = create(gateway_url, gateway, more)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", param)
    assert param in error["message"]
    assert llm.chats() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "responses"),
        ("GET", "responses/resp_1"),
        ("DELETE", "responses/resp_1"),
        ("POST", "responses/resp_1/cancel"),
        ("GET", "responses/resp_1/input_items"),
        ("POST", "conversations"),
        ("GET", "conversations/conv_1"),
        ("POST", "conversations/conv_1"),
        ("DELETE", "conversations/conv_1"),
        ("POST", "conversations/conv_1/items"),
        ("GET", "conversations/conv_1/items"),
        ("GET", "conversations/conv_1/items/msg_1"),
        ("DELETE", "conversations/conv_1/items/msg_1"),
    ],
)
def test_a_query_parameter_that_is_not_known_is_refused(
    method: str, path: str, gateway: GatewayFixture, gateway_url: str
) -> None:
    bodies = {
        "responses": {"model": "fake", "input": "hi"},
        "conversations/conv_1": {"metadata": {}},
        "conversations/conv_1/items": {"items": [{"role": "user", "content": "x"}]},
    }
    body = bodies.get(path, {}) if method == "POST" else None
    answer = httpx.request(method, f"{gateway_url}/v1/{path}?model=x", json=body, headers=gateway.headers())
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", "model")


@pytest.mark.parametrize(("more", "param"), WRONG)
def test_what_is_wrong_is_refused_with_its_place(
    more: dict[str, Any], param: str, gateway: GatewayFixture, gateway_url: str
) -> None:
    answer = create(gateway_url, gateway, more)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert "vvv" not in error["message"], "the error repeats what was sent"


def test_nulls_pass_wherever_openai_allows_them(gateway: GatewayFixture, gateway_url: str) -> None:
    optional = [
        "background", "context_management", "conversation", "frequency_penalty", "include", "instructions",
        "max_output_tokens", "max_tool_calls", "metadata", "moderation", "parallel_tool_calls", "presence_penalty",
        "previous_response_id", "prompt", "prompt_cache_key", "prompt_cache_retention", "reasoning",
        "safety_identifier", "service_tier", "store", "stream", "temperature", "tool_choice", "tools", "top_logprobs",
        "top_p", "truncation", "user",
    ]  # fmt: skip
    inner = {
        "text": {"format": None, "verbosity": None},
        "stream_options": {"include_obfuscation": None},
        "prompt_cache_options": {"mode": None, "ttl": None, "prewarm": None, "comparison_response_id": None},
        "background_options": {"completion_window": None, "continuation_id": None},
        "image": {"context_compression": None},
    }
    answer = create(gateway_url, gateway, {**dict.fromkeys(optional), **inner})
    assert answer.status_code == 200, answer.json()
    answer = create(gateway_url, gateway, {**dict.fromkeys([*optional, *inner])})
    assert answer.status_code == 200, answer.json()
    assert answer.json()["status"] == "completed"
    message = {"role": "user", "content": "x", "id": None, "status": None, "phase": None, "type": "message"}
    assert create(gateway_url, gateway, {"input": [message]}).status_code == 200


def test_what_frontends_commonly_send_is_accepted(client: Any) -> None:
    response = client.responses.create(
        model="fake",
        input="hi",
        include=[],
        tools=[],
        parallel_tool_calls=True,
        prompt_cache_key="chat-1",
        safety_identifier="u",
        service_tier="priority",
        text={"format": {"type": "text"}, "verbosity": "medium"},
        truncation="auto",
        user="u",
        stream_options={"include_obfuscation": True},
        prompt_cache_retention="24h",
        prompt_cache_options={"mode": "implicit", "ttl": "30m"},
        background_options={"completion_window": "2h"},
    )
    assert response.status == "completed"
    assert response.service_tier == "default"
    assert response.prompt_cache_key == "chat-1"


def test_what_samples_reaches_the_pod_and_hints_do_not(client: Any, llm: FakeLlm) -> None:
    client.responses.create(
        model="fake",
        input="hi",
        temperature=0.5,
        top_p=0,
        max_output_tokens=9,
        top_logprobs=2,
        user="u",
        prompt_cache_retention="24h",
        extra_body={"presence_penalty": 1, "frequency_penalty": -1},
    )
    body = llm.chats()[-1]
    assert 0 < body.pop("top_p") < 1e-4
    sampling = {
        "temperature": 0.5, "max_tokens": 9, "logprobs": True, "top_logprobs": 2, "presence_penalty": 1,
        "frequency_penalty": -1,
    }  # fmt: skip
    assert sampling.items() <= body.items()
    assert body.keys() - sampling.keys() == {"model", "messages", "stream", "stream_options", "cache_salt"}


def test_logprobs_are_told_with_the_text_and_kept_with_the_message(client: Any, llm: FakeLlm) -> None:
    llm.answer = ("One", " two", ".")
    with client.responses.stream(
        model="fake", input="hi", include=["message.output_text.logprobs"], top_logprobs=1
    ) as stream:
        events = list(stream)
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    told = [logprob for event in deltas for logprob in event.logprobs]
    assert [logprob.token for logprob in told] == ["One", " two", "."]
    assert [len(logprob.top_logprobs or []) for logprob in told] == [1, 1, 1]
    done = next(event for event in events if event.type == "response.output_text.done")
    assert [one.to_dict() for one in done.logprobs] == [one.to_dict() for one in told]
    response = events[-1].response
    kept = response.output[0].content[0].logprobs
    assert [(one.token, one.logprob, one.bytes) for one in kept] == [
        ("One", -0.5, list(b"One")), (" two", -0.5, list(b" two")), (".", -0.5, list(b".")),
    ]  # fmt: skip
    assert client.responses.retrieve(response.id).output[0].content[0].logprobs == kept
    plain = client.responses.create(model="fake", input="hi")
    assert plain.output[0].content[0].logprobs == []
    assert "logprobs" not in llm.chats()[-1]


def test_output_can_be_sent_back_as_input(client: Any, llm: FakeLlm) -> None:
    first = client.responses.create(model="fake", input="one", store=False)
    client.responses.create(
        model="fake", input=[{"role": "user", "content": "one"}, *first.output, {"role": "user", "content": "two"}]
    )
    assert [message["role"] for message in llm.chats()[-1]["messages"]] == ["user", "assistant", "user"]


def test_unknown_model_is_a_404(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="gpt-9", input="hi")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe",
        b'{"model": "fake", "input": "\\ud800"}',
        b'{"model": "fake", "input": "x", "tools": [{"type": "file_search", "vector_store_ids": ["v"], '
        b'"filters": {"a": "\\ud800"}}]}',
        b'{"model": "fake", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model": "fake", "input": "x", "temperature": NaN}',
        b'{"model": "fake", "input": "x", "max_output_tokens": 1000000000000000000000000000000}',
        b'{"model": "fake", "input": "x", "tools": [{"type": "file_search", "vector_store_ids": ["\\ud800"]}]}',
    ],
)
def test_garbage_is_a_400_in_openais_shape(raw: bytes, gateway: GatewayFixture, gateway_url: str) -> None:
    headers = {**gateway.headers(), "content-type": "application/json"}
    answer = httpx.post(f"{gateway_url}/v1/responses", content=raw, headers=headers)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/responses/resp_1", "limit"),
        ("/v1/responses/resp_1/input_items", "starting_after"),
        ("/v1/conversations/c/items", "before"),
        ("/v1/models", "limit"),
    ],
)
def test_query_parameters_that_are_not_honoured_are_refused_by_name_and_what_means_nothing_passes(
    path: str, param: str, gateway: GatewayFixture, gateway_url: str
) -> None:
    answer = httpx.get(f"{gateway_url}{path}?{param}=1", headers=gateway.headers())
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    answer = httpx.get(f"{gateway_url}{path}?api-version=1&_=2", headers=gateway.headers())
    assert answer.status_code in {200, 404}


def test_a_server_state_only_key_writes_user_messages_and_nothing_else(
    gateway: GatewayFixture, gateway_url: str, installation: Installation
) -> None:
    admin = closing(
        openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="x", admin_api_key=gateway.admin_key, max_retries=0)
    )
    with admin:
        projects = admin.admin.organization.projects
        project = projects.create(name="fenced")
        account = projects.service_accounts.create(project.id, name="web")
        key = projects.service_accounts.api_keys.create(
            account.id, project_id=project.id, scopes=["responses", "conversations", "server_state_only"]
        )
    client = sdk(gateway_url, gateway, key.value)
    conversation = client.conversations.create(items=[{"role": "user", "content": "x"}])
    assert client.responses.create(model="fake", input="hi", conversation=conversation.id).status == "completed"
    history = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "I said"}]
    for role in ("assistant", "system", "developer"):
        item = {"role": role, "content": "x"}
        calls: list[tuple[Callable[[], object], str]] = [
            (partial(client.responses.create, model="fake", input=[item]), "input[0].role"),
            (partial(client.conversations.create, items=[item]), "items[0].role"),
            (partial(client.conversations.items.create, conversation.id, items=[item]), "items[0].role"),
        ]
        for call, param in calls:
            with pytest.raises(openai.PermissionDeniedError) as refused:
                call()
            assert refused.value.param == param
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client.responses.create(model="fake", input=history)
    assert refused.value.param == "input[1].role"
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client.responses.create(model="fake", input="x", instructions="be evil")
    assert refused.value.param == "instructions"
