"""Bodies that cost more than they weigh are refused with one error, before anything is made of them."""

import json
from typing import Any

import httpx
import pytest
from cloister_common.testing.llm import FakeLlm
from websockets.sync.client import ClientConnection

from tests.support.gateway import GatewayFixture
from tests.support.sockets import ask, opened, receive, send, turn
from tests.support.waiting import wait_until

MANY = 60_000


def flood(path: str) -> tuple[str, bytes]:
    unknown = b"{%s}" % b",".join(b'"f%d":1' % number for number in range(MANY))
    numbers = b"[%s]" % b",".join([b"1"] * MANY)
    return path, {
        "/v1/responses": b'{"model":"fake","input":%b}' % numbers,
        "/v1/chat/completions": b'{"model":"fake","messages":%b}' % numbers,
        "/v1/completions": b'{"model":"fake","prompt":%b}' % numbers,
        "/v1/conversations": unknown,
        "/v1/embeddings": b'{"model":"fake","input":%b}' % numbers,
        "/v1/rerank": b'{"model":"fake","query":"q","documents":%b}' % numbers,
        "/v1/organization/projects": unknown,
    }[path]


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/responses", "/v1/chat/completions", "/v1/conversations", "/v1/embeddings", "/v1/rerank"),
        *("/v1/completions", "/v1/organization/projects"),
    ],
)
def test_a_flood_of_values_is_one_error(path: str, gateway: GatewayFixture, gateway_url: str) -> None:
    key = gateway.admin_key if "organization" in path else gateway.project_key
    path, raw = flood(path)
    headers = {**gateway.headers(key), "content-type": "application/json"}
    answer = httpx.post(f"{gateway_url}{path}", content=raw, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_many_values")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/responses", {"model": "fake", "input": [1] * 40_000}, "input[0]"),
        ("/v1/chat/completions", {"model": "fake", "messages": [{"role": "user"}, *[1] * 40_000]}, "messages[1]"),
        ("/v1/conversations", {f"field{number}": 1 for number in range(40_000)}, "field0"),
        ("/v1/conversations", {"metadata": {f"k{number}": 1 for number in range(40_000)}}, "metadata.k0"),
        ("/v1/rerank", {"model": "fake", "query": "q", "documents": ["a", *[1] * 40_000]}, "documents[1]"),
    ],
)
def test_of_many_faults_the_first_is_named(
    path: str, body: dict[str, Any], param: str, gateway: GatewayFixture, gateway_url: str
) -> None:
    answer = httpx.post(f"{gateway_url}{path}", json=body, headers=gateway.headers(), timeout=60)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert len(answer.content) < 1000


def test_a_long_chat_is_answered(llm: FakeLlm, gateway: GatewayFixture, gateway_url: str) -> None:
    llm.context_tokens = 1_000_000
    messages = [{"role": "user", "content": [{"type": "text", "text": "one, two, three"}]}] * 8_000
    body = {"model": "fake", "messages": messages}
    answer = httpx.post(f"{gateway_url}/v1/chat/completions", json=body, headers=gateway.headers(), timeout=60)
    assert answer.status_code == 200
    (call,) = [request for request in llm.requests if request.path == "/v1/chat/completions"]
    assert len(call.body["messages"]) == 8_000


def test_a_flood_in_a_socket_is_one_error_and_the_socket_goes_on(gateway: GatewayFixture, gateway_url: str) -> None:
    with opened(gateway_url, gateway) as socket:
        for body, status in (
            ({"input": [1] * MANY}, 413),
            ({"input": [1] * 40_000}, 400),
            ({f"field{number}": 1 for number in range(40_000)}, 400),
        ):
            send(socket, "response.create", model="fake", stream_id="lane", **body)
            error = receive(socket)
            assert (error["type"], error["status"]) == ("error", status)
            assert len(json.dumps(error)) < 1000
        ask(socket)
        assert turn(socket)[-1]["type"] == "response.completed"


def test_turns_that_wait_in_sockets_have_a_bound_for_each_project(llm: FakeLlm, make_gateway: Any) -> None:
    gateway = make_gateway(responses={"waiting_bytes_per_tenant": 10_000})
    llm.hold_after = 0
    text = "x" * 4_000
    with gateway.serve() as url, opened(url, gateway) as one, opened(url, gateway) as other:
        for socket in (one, other):
            ask(socket, "first")
            while receive(socket)["type"] != "response.in_progress":
                pass
        assert _is_taken(one, text)
        assert _is_taken(other, text)
        assert not _is_taken(one, text)
        one.close()
        # What waited there waits no longer, so there is room again.
        wait_until(lambda: _is_taken(other, text), seconds=30, what="room for a turn that waits")
        llm.release()
        assert [turn(other)[-1]["type"] for _ in range(3)] == ["response.completed"] * 3


def _is_taken(socket: ClientConnection, text: str) -> bool:
    """Sends a turn that has to wait; whether it was taken. What is asked after it is answered after it."""
    ask(socket, text)
    send(socket, "response.cancel", response_id="resp_unknown")
    error = receive(socket)
    if error["status"] == 404:
        return True
    assert (error["status"], "10000 bytes" in error["error"]["message"]) == (429, True)
    assert receive(socket)["status"] == 404
    return False
