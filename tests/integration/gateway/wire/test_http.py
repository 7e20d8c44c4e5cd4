"""HTTP as clients speak it to the gateway: other methods, other paths, compressed bodies."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from backports import zstd
from cloister_common.testing.llm import FakeLlm

from tests.integration.gateway.conftest import _sdk, joined_text
from tests.support.gateway import GatewayFixture
from tests.support.sockets import ask, opened, turn
from tests.support.waiting import wait_until

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}


def answer_of(body: dict[str, Any]) -> str:
    return "".join(part["text"] for item in body["output"] for part in item["content"])


def test_head_has_what_get_has_but_the_body(gateway: GatewayFixture, gateway_url: str, client: Any) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": "x"}])
    response = client.responses.create(model="fake", input="hi")
    paths = (
        *("/v1/models", "/v1/models/fake", "/v1/files", "/v1/vector_stores", f"/v1/conversations/{conversation.id}"),
        *(f"/v1/conversations/{conversation.id}/items?limit=1", f"/v1/responses/{response.id}"),
        *(f"/v1/responses/{response.id}/input_items", "/v1/responses/resp_unknown", "/v1/nowhere", "/livez"),
    )
    with httpx.Client(base_url=gateway_url, headers=gateway.headers()) as http:
        for path in paths:
            got, headed = http.get(path), http.head(path)
            assert (headed.status_code, headed.content) == (got.status_code, b""), path
            for name in ("content-type", "content-length"):
                assert headed.headers[name] == got.headers[name], path
        refused = http.head("/v1/models", headers={"authorization": "Bearer nobody"})
        assert (refused.status_code, refused.content) == (401, b"")


def test_head_of_a_stream_ends_at_once_and_the_run_goes_on(
    gateway: GatewayFixture, gateway_url: str, client: Any, llm: FakeLlm
) -> None:
    llm.hold_after = 1
    response = client.responses.create(model="fake", input="hi", background=True)
    answer = httpx.head(f"{gateway_url}/v1/responses/{response.id}?stream=true", headers=gateway.headers(), timeout=20)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
    llm.release()
    wait_until(lambda: client.responses.retrieve(response.id).status == "completed", what="the run's end")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/models", "GET, HEAD, OPTIONS"),
        ("/v1/models/org/name", "GET, HEAD, OPTIONS"),
        ("/v1/chat/completions", "OPTIONS, POST"),
        ("/v1/responses", "OPTIONS, POST"),
        ("/v1/responses/resp_1", "DELETE, GET, HEAD, OPTIONS"),
        ("/v1/responses/resp_1/cancel", "OPTIONS, POST"),
        ("/v1/conversations/conv_1", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("/v1/files", "GET, HEAD, OPTIONS, POST"),
        ("/v1/files/file-1/content", "GET, HEAD, OPTIONS"),
        ("/v1/vector_stores/vs_1/files/file-1", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("/v1/organization/projects", "GET, HEAD, OPTIONS, POST"),
    ],
)
def test_every_path_says_what_it_is_served_for(
    path: str, allowed: str, gateway: GatewayFixture, gateway_url: str
) -> None:
    with httpx.Client(base_url=gateway_url, headers=gateway.headers()) as http:
        asked, refused = http.options(path), http.put(path, json={})
        assert (asked.status_code, asked.headers["allow"], asked.content) == (204, allowed, b"")
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
        assert http.options(path, headers={"authorization": ""}).status_code == 401


def test_paths_that_are_not_served_are_a_404_for_every_method(gateway: GatewayFixture, gateway_url: str) -> None:
    with httpx.Client(base_url=gateway_url, headers=gateway.headers()) as http:
        for method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE"):
            assert http.request(method, "/v1/moderations").status_code == 404
        for method in ("GET", "HEAD"):
            assert http.request(method, "/v1/chat/completions").status_code == 404


@pytest.mark.parametrize("base", ["/v1/", "/v1//", "//v1", "//v1//"])
def test_slashes_too_many_in_a_base_url_change_nothing(
    base: str, gateway: GatewayFixture, gateway_url: str, llm: FakeLlm
) -> None:
    headers, text = gateway.headers(), "".join(llm.answer)
    with httpx.Client(headers=headers, follow_redirects=False, timeout=20) as http:
        for path in ("/responses", "/responses/"):
            answer = http.post(f"{gateway_url}{base}{path}", json={"model": "fake", "input": "hi"})
            assert (answer.status_code, answer_of(answer.json())) == (200, text)
        assert http.get(f"{gateway_url}{base}/models/").status_code == 200
    events = list(_sdk(f"{gateway_url}/", gateway.project_key).responses.create(model="fake", input="hi", stream=True))
    assert joined_text(events) == text
    with opened(f"{gateway_url}/", gateway) as socket:
        ask(socket)
        assert turn(socket)[-1]["type"] == "response.completed"


@pytest.mark.parametrize("coding", COMPRESS)
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions", "/v1/conversations"])
def test_a_compressed_body_is_read(coding: str, path: str, gateway: GatewayFixture, gateway_url: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/responses": {"model": "fake", "input": "hi", "metadata": {"a": "b"}},
        "/v1/chat/completions": {"model": "fake", "messages": [{"role": "user", "content": "hi " * 500}]},
        "/v1/conversations": {"metadata": {"a": "b"}},
    }
    raw = COMPRESS[coding](json.dumps(bodies[path]).encode())
    headers = {**gateway.headers(), "content-type": "application/json", "content-encoding": coding}
    answer = httpx.post(f"{gateway_url}{path}", content=raw, headers=headers, timeout=20)
    assert answer.status_code == 200
    cut_off = httpx.post(f"{gateway_url}{path}", content=raw[:-3], headers=headers, timeout=20)
    assert (cut_off.status_code, cut_off.json()["error"]["param"]) == (400, "Content-Encoding")


@pytest.mark.parametrize("coding", COMPRESS)
def test_a_bomb_is_a_413(coding: str, gateway: GatewayFixture, gateway_url: str) -> None:
    bomb = COMPRESS[coding](b'{"model":"fake","input":"' + b"a" * 50_000_000)
    headers = {**gateway.headers(), "content-type": "application/json", "content-encoding": coding}
    answer = httpx.post(f"{gateway_url}/v1/responses", content=bomb, headers=headers, timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("body", [None, b"", b"{}"])
def test_a_cancel_needs_no_body(body: bytes | None, gateway: GatewayFixture, gateway_url: str, client: Any) -> None:
    response = client.responses.create(model="fake", input="hi")
    headers = {**gateway.headers(), "content-type": "application/json", "accept": "text/html"}
    answer = httpx.post(f"{gateway_url}/v1/responses/{response.id}/cancel", content=body, headers=headers)
    assert answer.status_code in {200, 400}
    assert "body" not in answer.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_name_of_the_scheme_may_be_written_in_any_case(
    scheme: str, gateway: GatewayFixture, gateway_url: str
) -> None:
    headers = {"authorization": f"{scheme} {gateway.project_key}"}
    assert httpx.get(f"{gateway_url}/v1/models", headers=headers).status_code == 200
