"""How soon a request is wanted: from the caller's words to what the pod is told."""

from typing import Any

import httpx
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_gateway.models.work import WorkClass

from tests.support.gateway import GatewayFixture
from tests.support.waiting import wait_until

HELLO = [{"role": "user", "content": "Hello"}]
BACKGROUND = WorkClass.BACKGROUND.priority


def post(url: str, gateway: GatewayFixture, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{url}{path}", headers=gateway.headers(), json={"model": "fake", **body}, timeout=60)


@pytest.mark.parametrize(
    ("asked", "priority", "tier"),
    [
        ({}, None, "default"),
        ({"service_tier": "priority"}, None, "default"),
        ({"service_tier": "flex"}, BACKGROUND, "flex"),
        ({"background": True}, BACKGROUND, "default"),
        ({"background": True, "service_tier": "flex"}, BACKGROUND, "flex"),
    ],
)
def test_a_response_goes_to_the_pod_with_the_priority_of_its_class(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm, asked: dict[str, Any], priority: int | None, tier: str
) -> None:
    answer = post(gateway_url, gateway, "/v1/responses", {"input": "hi", **asked})
    assert answer.status_code == 200
    assert answer.json()["service_tier"] == tier
    wait_until(lambda: bool(llm.chats()), what="the pod is asked")
    assert llm.chats()[0].get("priority") == priority


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("tier", "priority"), [("flex", BACKGROUND), ("default", None), (None, None)])
def test_a_chat_completion_goes_to_the_pod_with_the_priority_of_its_class(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm, *, stream: bool, tier: str | None, priority: int | None
) -> None:
    body = {"messages": HELLO, "stream": stream, "service_tier": tier}
    answer = post(gateway_url, gateway, "/v1/chat/completions", body)
    assert answer.status_code == 200
    assert f'"service_tier":"{tier or "default"}"' in answer.text
    assert llm.chats()[0].get("priority") == priority
    assert "service_tier" not in llm.chats()[0]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": "hi"}),
        ("/v1/chat/completions", {"messages": HELLO}),
        ("/v1/completions", {"prompt": "hi"}),
    ],
)
def test_no_caller_names_a_priority(gateway: GatewayFixture, gateway_url: str, path: str, body: dict[str, Any]) -> None:
    refused = post(gateway_url, gateway, path, {**body, "priority": -1})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "priority")
