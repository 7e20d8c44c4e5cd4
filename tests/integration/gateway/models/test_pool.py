"""A pool that chooses among its pods itself: what goes over the wire to it, recorded, and what does not."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_gateway.models.work import WorkClass

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture

FORGED = {
    "x-session-id": "forged",
    "x-gateway-inference-fairness-id": "forged",
    "x-gateway-inference-objective": "forged",
    "x-llm-d-inference-fairness-id": "forged",
    "x-llm-d-inference-objective": "forged",
    "x-gateway-destination-endpoint": "10.0.0.1:8000",
    "x-gateway-model-name-rewrite": "forged",
}


@pytest.fixture
def picker() -> FakeLlm:
    """What answers at the pool's address: it keeps every request with its headers."""
    return FakeLlm(token=INTERNAL_TOKEN)


@pytest.fixture
def caller(make_gateway: Callable[..., GatewayFixture], picker: FakeLlm) -> Iterator[httpx.Client]:
    with served(picker) as pool:
        entry = {"pool": {"url": pool, "background": "night"}, "context_tokens": 2048}
        gateway = make_gateway(models={"fake": entry})
        with (
            gateway.serve() as url,
            httpx.Client(base_url=url, headers={**gateway.headers(), **FORGED}, timeout=60) as client,
        ):
            yield client


def chats(picker: FakeLlm) -> list[dict[str, str]]:
    return [request.headers for request in picker.requests if request.path == "/v1/chat/completions"]


def respond(caller: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = caller.post("/v1/responses", json={"model": "fake", "input": "hi", **body})
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def test_the_pool_is_told_conversation_tenant_and_class_and_nothing_that_a_caller_says(
    caller: httpx.Client, picker: FakeLlm
) -> None:
    conversations = [caller.post("/v1/conversations", json={}).json()["id"] for _ in range(2)]
    for conversation in (conversations[0], conversations[0], conversations[1]):
        respond(caller, conversation=conversation)
    told = chats(picker)
    sessions = [headers["x-session-id"] for headers in told]
    assert sessions[0] == sessions[1] != sessions[2]
    for headers in told:
        assert "forged" not in headers.values()
        assert "x-gateway-destination-endpoint" not in headers
        assert not any(conversation in value for value in headers.values() for conversation in conversations)
        for name in ("x-gateway-inference", "x-llm-d-inference"):
            assert headers[f"{name}-fairness-id"].startswith("proj_")
            assert headers[f"{name}-objective"] == "interactive"


def test_a_background_run_has_the_objective_of_its_class(caller: httpx.Client, picker: FakeLlm) -> None:
    begun = respond(caller, background=True)
    while begun["status"] in {"queued", "in_progress"}:
        begun = caller.get(f"/v1/responses/{begun['id']}").json()
    (headers,) = chats(picker)
    assert headers["x-gateway-inference-objective"] == "night"
    assert "priority" not in picker.chats()[0], "its pods may not schedule by it, and would refuse it"


def test_a_chat_without_a_cache_key_is_of_no_session(caller: httpx.Client, picker: FakeLlm) -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
    for more in ({}, {"prompt_cache_key": "desk 7"}, {"prompt_cache_key": "desk 7"}):
        caller.post("/v1/chat/completions", json={**body, **more}).raise_for_status()
    without, *with_key = chats(picker)
    assert "x-session-id" not in without
    assert with_key[0]["x-session-id"] == with_key[1]["x-session-id"] != "desk 7"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("fault", ["refuses", "breaks"])
def test_what_fails_before_its_first_token_is_asked_once(
    path: str, fault: str, caller: httpx.Client, picker: FakeLlm
) -> None:
    if fault == "refuses":
        picker.refuse_status = 503
    else:
        picker.drop_after = 0
    asked = {"messages": [{"role": "user", "content": "hi"}]} if "chat" in path else {"input": "hi"}
    answer = caller.post(path, json={"model": "fake", **asked})
    assert answer.status_code in {502, 503} or answer.json()["status"] == "failed"
    assert len(chats(picker)) == 1


def test_an_answer_that_breaks_off_is_gone_on_with(caller: httpx.Client, picker: FakeLlm) -> None:
    """That is no retry: the pool gets another request, with the text so far."""
    picker.drop_after = 3
    conversation = caller.post("/v1/conversations", json={}).json()["id"]
    with caller.stream(
        "POST", "/v1/responses", json={"model": "fake", "input": "hi", "conversation": conversation, "stream": True}
    ) as answer:
        for line in answer.iter_lines():
            if "response.output_text.delta" in line:
                picker.drop_after = None
    assert len(chats(picker)) == 2
    assert picker.chats()[1]["continue_final_message"] is True
    assert chats(picker)[0]["x-session-id"] == chats(picker)[1]["x-session-id"]


def test_pods_of_a_pool_that_schedule_by_priority_are_told_it(
    make_gateway: Callable[..., GatewayFixture], picker: FakeLlm
) -> None:
    with served(picker) as pool:
        gateway = make_gateway(models={"fake": {"pool": {"url": pool, "priorities": True}, "context_tokens": 2048}})
        with gateway.serve() as url, httpx.Client(base_url=url, headers=gateway.headers(), timeout=60) as client:
            respond(client)
            respond(client, service_tier="flex")
    assert [chat.get("priority", 0) for chat in picker.chats()] == [0, WorkClass.BACKGROUND.priority]
