"""Chat completions through the unmodified OpenAI SDK, over sockets, with a pod that behaves as told."""

import http.client
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import free_port, served

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(gateway: GatewayFixture, gateway_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key=gateway.project_key, max_retries=0) as made:
        yield made


def post(url: str, gateway: GatewayFixture, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", headers=gateway.headers(), json=body)


def test_whole_completion(client: openai.OpenAI, llm: FakeLlm) -> None:
    answer = client.chat.completions.create(
        model="fake", messages=HELLO, max_completion_tokens=3, temperature=0, seed=7
    )
    assert answer.choices[0].message.content == "Hello, this"
    assert answer.choices[0].finish_reason == "length"
    assert answer.model == "fake"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    sent = llm.chats()[0]
    assert (sent["temperature"], sent["seed"], sent["max_completion_tokens"]) == (0, 7, 3)


def test_operations_of_openai_that_are_not_served_are_unknown_urls(client: openai.OpenAI) -> None:
    calls: list[Callable[[], object]] = [
        client.chat.completions.list,
        lambda: client.chat.completions.retrieve("chatcmpl-1"),
        lambda: client.models.delete("fake"),
        lambda: client.moderations.create(input="hi"),
        lambda: client.images.generate(prompt="a fox"),
        lambda: client.audio.speech.create(model="fake", input="hi", voice="alloy"),
        lambda: client.fine_tuning.jobs.list(),
        lambda: client.evals.list(),
        lambda: client.containers.list(),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError) as refused:
            call()
        assert refused.value.code == "unknown_url"


def test_stream_carries_every_token_and_the_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="fake", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello, this is the fake."
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 7


async def test_async_client_streams(gateway: GatewayFixture, gateway_url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway_url}/v1", api_key=gateway.project_key) as client:
        stream = await client.chat.completions.create(model="fake", messages=HELLO, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == "Hello, this is the fake."


def test_stream_ends_with_done_and_is_not_buffered(gateway: GatewayFixture, gateway_url: str) -> None:
    response = post(gateway_url, gateway, {"model": "fake", "messages": HELLO, "stream": True})
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("data: [DONE]\n\n")


def test_first_token_arrives_before_the_last_is_made(client: openai.OpenAI, llm: FakeLlm) -> None:
    llm.hold_after = 2
    with client.chat.completions.create(model="fake", messages=HELLO, stream=True) as stream:
        received = [next(stream).choices[0].delta.content for _ in range(3)]
        assert received == ["", "Hello", ","]
        llm.release()
        rest = [chunk.choices[0].delta.content for chunk in stream]
    assert rest == [" this", " is", " the", " fake", "."]


def leave(url: str, gateway: GatewayFixture, llm: FakeLlm, *, seen: bytes = b"", **body: Any) -> None:
    """Asks, and closes the connection once the pod works on it and ``seen`` has been read."""
    address = httpx.URL(url)
    connection = http.client.HTTPConnection(address.host, address.port, timeout=60)
    question = json.dumps({"model": "fake", "messages": HELLO, **body})
    headers = {**gateway.headers(), "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", question, headers)
    wait_until(lambda: llm.running == 1, what="the pod works on it")
    if seen:
        answer, text = connection.getresponse(), b""
        while seen not in text:
            text += answer.read1()
        answer.close()
    connection.close()


@pytest.mark.parametrize(("held_at", "seen"), [(0, b""), (2, b"Hello")])
def test_client_that_goes_away_ends_the_generation(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm, held_at: int, seen: bytes
) -> None:
    llm.hold_after = held_at
    leave(gateway_url, gateway, llm, seen=seen, stream=True)
    wait_until(lambda: llm.running == 0 and llm.aborted == 1, what="the abort")


def test_client_that_goes_away_ends_a_whole_completion_too(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm
) -> None:
    llm.hold_after = 0
    leave(gateway_url, gateway, llm)
    wait_until(lambda: llm.running == 0 and llm.aborted == 1, what="the abort")


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
def test_revoking_a_key_ends_what_it_is_being_answered(
    path: str, gateway: GatewayFixture, gateway_url: str, llm: FakeLlm
) -> None:
    url, body = f"{gateway_url}/v1/{path}", {"model": "fake", "messages" if "chat" in path else "input": HELLO}
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="x", admin_api_key=gateway.admin_key) as admin:
        projects = admin.admin.organization.projects
        project = projects.create(name="p")
        made = projects.service_accounts.create(project.id, name="bot").api_key
        assert made is not None
        llm.hold_after = 2
        headers = gateway.headers(made.value)
        with (
            ThreadPoolExecutor() as pool,
            httpx.stream("POST", url, headers=headers, json={**body, "stream": True}) as streamed,
        ):
            pieces, received = streamed.iter_text(), [""]
            while "Hello" not in received[-1]:
                received.append(next(pieces))
            whole = pool.submit(httpx.post, url, headers=headers, json=body)
            wait_until(lambda: llm.running == 2)
            projects.api_keys.delete(made.id, project_id=project.id)
            with pytest.raises(httpx.RemoteProtocolError):
                received.extend(pieces)
            assert "this" not in "".join(received)
            refused = whole.result()
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    if "chat" in path:
        wait_until(lambda: llm.running == 0 and llm.aborted == 2)
    else:  # runs go on without those who asked
        llm.release()
        wait_until(lambda: llm.running == 0)


@pytest.mark.parametrize("failure", ["drop_after", "error_after"])
def test_failure_in_the_middle_is_an_error_event(
    client: openai.OpenAI, gateway: GatewayFixture, gateway_url: str, llm: FakeLlm, failure: str
) -> None:
    setattr(llm, failure, 3)
    llm.delay_seconds = 0.02
    with pytest.raises(openai.APIError, match="stopped in the middle"):
        list(client.chat.completions.create(model="fake", messages=HELLO, stream=True))
    response = post(gateway_url, gateway, {"model": "fake", "messages": HELLO, "stream": True})
    assert response.text.endswith("data: [DONE]\n\n")


def test_silent_pod_is_given_up(make_gateway: Callable[..., GatewayFixture], llm: FakeLlm, tmp_path: Any) -> None:
    token = tmp_path / "secrets" / "token"
    gateway = make_gateway(llm={"token_file": str(token), "token_seconds": 0.3, "first_token_seconds": 0.6})
    with gateway.serve() as url:
        llm.hold_after = 2
        response = post(url, gateway, {"model": "fake", "messages": HELLO, "stream": True})
        assert "stopped in the middle" in response.text
        llm.hold_after = 0
        response = post(url, gateway, {"model": "fake", "messages": HELLO, "stream": True})
        assert response.status_code == 502
        assert response.json()["error"]["code"] == "model_timeout"
        wait_until(lambda: llm.running == 0)


def test_prompt_over_the_context_is_a_400_with_openai_code(client: openai.OpenAI, llm: FakeLlm) -> None:
    llm.context_tokens = 10
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "word " * 20}])
    assert caught.value.code == "context_length_exceeded"


def test_tool_call_passes_through(client: openai.OpenAI, llm: FakeLlm) -> None:
    llm.tool_call = ("get_weather", '{"city":"Bern"}')
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    answer = client.chat.completions.create(model="fake", messages=HELLO, tools=tools, tool_choice="auto")
    assert answer.choices[0].message.tool_calls is not None
    call: Any = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert llm.chats()[0]["tools"] == tools


def test_gateway_sets_the_cache_salt_by_tenant_and_callers_cannot(
    gateway: GatewayFixture, gateway_url: str, client: openai.OpenAI, llm: FakeLlm
) -> None:
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="x", admin_api_key=gateway.admin_key) as admin:
        project = admin.admin.organization.projects.create(name="other")
        made = admin.admin.organization.projects.service_accounts.create(project.id, name="bot").api_key
    assert made is not None
    client.chat.completions.create(model="fake", messages=HELLO)
    client.chat.completions.create(model="fake", messages=HELLO)
    client.with_options(api_key=made.value).chat.completions.create(model="fake", messages=HELLO)
    salts = [body["cache_salt"] for body in llm.chats()]
    assert salts[0] == salts[1] != salts[2]
    assert len(salts[0]) == 64
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="fake", messages=HELLO, extra_body={"cache_salt": "mine"})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "cache_salt")


def test_other_pod_answers_when_one_is_down(
    make_gateway: Callable[..., GatewayFixture], llm_url: str, llm: FakeLlm
) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    gateway = make_gateway(models={"fake": {"urls": [dead, llm_url], "context_tokens": 2048}})
    with gateway.serve() as url:
        for _ in range(4):
            assert post(url, gateway, {"model": "fake", "messages": HELLO}).status_code == 200
        streamed = post(url, gateway, {"model": "fake", "messages": HELLO, "stream": True})
        assert streamed.text.endswith("data: [DONE]\n\n")
    wait_until(lambda: llm.running == 0)


def test_pod_that_fails_before_its_first_byte_is_replaced(
    make_gateway: Callable[..., GatewayFixture], llm_url: str, llm: FakeLlm
) -> None:
    broken = FakeLlm(token=INTERNAL_TOKEN, refuse_status=500)
    with served(broken) as broken_url:
        gateway = make_gateway(models={"fake": {"urls": [broken_url, llm_url], "context_tokens": 2048}})
        with gateway.serve() as url:
            answers = [post(url, gateway, {"model": "fake", "messages": HELLO, "stream": True}) for _ in range(4)]
    assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers)
    assert len(llm.chats()) == 4


def test_no_pod_is_a_503_that_says_when_to_come_back(make_gateway: Callable[..., GatewayFixture]) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    gateway = make_gateway(models={"fake": {"urls": [dead], "context_tokens": 2048}})
    with gateway.serve() as url:
        for stream in (False, True):
            response = post(url, gateway, {"model": "fake", "messages": HELLO, "stream": stream})
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) > 0
        ready = httpx.get(f"{url}/readyz")
    assert ready.status_code == 503
    assert ready.json()["parts"]["model fake"] == "no pod is ready"
    assert ready.json()["parts"]["redis"] == "ready"


@pytest.mark.parametrize("stream", [False, True])
def test_a_store_that_does_not_answer_is_a_503(
    stream: bool, fresh_gateway: GatewayFixture, fresh_url: str, redis_server: RedisServer
) -> None:
    # The key is known from now on for a moment, in which only the call itself needs the store.
    httpx.get(f"{fresh_url}/v1/responses/resp_none", headers=fresh_gateway.headers())
    redis_server.kill()
    answer = post(fresh_url, fresh_gateway, {"model": "fake", "messages": HELLO, "stream": stream})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


def test_key_that_keeps_its_state_on_the_server_cannot_send_history(
    gateway: GatewayFixture, gateway_url: str, client: openai.OpenAI
) -> None:
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="x", admin_api_key=gateway.admin_key) as admin:
        accounts = admin.admin.organization.projects.service_accounts
        project = admin.admin.organization.projects.create(name="web")
        account = accounts.create(project.id, name="frontend")
        key = accounts.api_keys.create(account.id, project_id=project.id, scopes=["server_state_only"])
    fenced = client.with_options(api_key=key.value)
    with pytest.raises(openai.PermissionDeniedError) as caught:
        fenced.chat.completions.create(model="fake", messages=HELLO)
    assert caught.value.code == "server_state_only"
    assert fenced.models.list().data


def test_models_are_listed_and_found_by_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["fake", "seeing"]
    assert client.models.retrieve("fake").owned_by == "cloister"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("vendor/unknown")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="unknown", messages=HELLO)


def test_system_turn_of_either_name_reaches_the_model_as_system(client: openai.OpenAI, llm: FakeLlm) -> None:
    client.chat.completions.create(model="fake", messages=[{"role": "developer", "content": "Be brief."}, *HELLO])
    assert llm.chats()[0]["messages"][0] == {"role": "system", "content": "Be brief."}
