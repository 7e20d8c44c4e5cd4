"""A gateway's log at ``debug``: whose request it was, and nothing of what passed through."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.serving import served
from websockets.exceptions import InvalidStatus

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture, secret_file
from tests.support.gateway_process import GatewayProcess
from tests.support.pages import from_page, refused, ticket
from tests.support.sockets import ask, opened, receive, send, turn
from tests.support.waiting import wait_until

CANARY = "zanzibar-umbrella-quotient"


class Logged:
    """A gateway in a process of its own, and its log."""

    def __init__(self, folder: Path, gateway: GatewayFixture) -> None:
        self.gateway = gateway
        self.process = GatewayProcess(folder, gateway.settings)
        self._log = folder / "log"

    @property
    def text(self) -> str:
        return self._log.read_text()

    def requests(self, **fields: Any) -> list[dict[str, Any]]:
        """The request lines that have these fields."""
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if line["event"] == "request" and fields.items() <= line.items()]

    def request(self, **fields: Any) -> dict[str, Any]:
        """The one request line that has these fields, once it is there."""
        wait_until(lambda: self.requests(**fields), seconds=30, what=f"the line of {fields}")
        (line,) = self.requests(**fields)
        return line


@pytest.fixture
def logged(tmp_path: Path, llm: FakeLlm, make_gateway: Callable[..., GatewayFixture]) -> Iterator[Logged]:
    llm.answer = llm.reasoning = [CANARY] * 3
    token = str(secret_file(tmp_path / "secrets", "token", INTERNAL_TOKEN))
    with contextlib.ExitStack() as stack:
        retriever = stack.enter_context(served(FakeRetriever(INTERNAL_TOKEN)))
        gateway = make_gateway(log={"level": "debug"}, retriever={"url": retriever, "token_file": token})
        logged = Logged(tmp_path / "process", gateway)
        logged.process.start()
        stack.callback(logged.process.kill)
        yield logged


def _bodies() -> list[tuple[str, Any]]:
    text = {"format": {"type": "json_schema", "name": CANARY, "schema": {"title": CANARY, "type": "object"}}}
    turn = {"model": "fake", "input": CANARY, "metadata": {CANARY: CANARY}, "user": CANARY}
    chat = {"model": "fake", "messages": [{"role": "user", "content": CANARY}]}
    return [
        ("/v1/responses", {**turn, "text": text, "instructions": CANARY}),
        ("/v1/responses", {**turn, "stream": True}),
        ("/v1/responses", {**turn, CANARY: CANARY}),
        ("/v1/responses", {**turn, "input": [{"role": CANARY, "content": CANARY}]}),
        ("/v1/responses", {**turn, "input": [{"type": "reasoning", "summary": [], "encrypted_content": CANARY}]}),
        ("/v1/responses", {**turn, "input": [{"type": "item_reference", "id": CANARY}]}),
        ("/v1/responses", {**turn, "include": ["reasoning.encrypted_content"], "store": False}),
        ("/v1/responses", {**turn, "model": CANARY}),
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", {**chat, "stop": [CANARY], "stream": True}),
        ("/v1/conversations", {"metadata": {"a": CANARY}, "items": [{"role": "user", "content": CANARY}]}),
        ("/v1/embeddings", {"model": CANARY, "input": CANARY}),
        ("/v1/rerank", {"model": CANARY, "query": CANARY, "documents": [CANARY]}),
        ("/v1/vector_stores", {"name": CANARY}),
        (f"/v1/vector_stores/{CANARY}/search", {"query": CANARY}),
        (f"/v1/responses?{CANARY}={CANARY}", turn),
    ]


def test_nothing_that_passes_through_a_gateway_is_in_its_log(logged: Logged) -> None:
    gateway, url = logged.gateway, logged.process.url
    for key in (gateway.project_key, gateway.admin_key, CANARY):
        headers = {**gateway.headers(key), "x-header": CANARY, "cookie": CANARY, "idempotency-key": CANARY}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            for path, body in _bodies():
                client.post(path, json=body)
            client.post("/v1/files", files={"file": (f"{CANARY}.txt", CANARY)}, data={"purpose": CANARY})
            client.post("/v1/organization/projects", json={"name": CANARY})
            client.post("/v1/organization/admin_api_keys", json={"name": CANARY})
            client.request(CANARY, "/v1/responses")
            client.get(f"/{CANARY}")
    with opened(url, gateway) as socket:
        ask(socket, CANARY, metadata={CANARY: CANARY})
        assert CANARY in json.dumps(turn(socket))
        send(socket, CANARY, **{CANARY: CANARY})
        assert receive(socket)["type"] == "error"
        socket.send(CANARY)
        assert receive(socket)["type"] == "error"
        socket.ping(CANARY)
    shown = ticket(url, gateway.project_key, page=None)
    for named in (shown, shown, f"openai-insecure-api-key.{gateway.project_key}"):
        with contextlib.suppress(InvalidStatus), from_page(url, "realtime", named, CANARY, page=None):
            pass
    assert refused(url, page=None, query=f"?{CANARY}={gateway.project_key}")[0] == 400
    assert refused(url, page=f"https://{CANARY}.example")[0] == 403
    wait_until(lambda: len(logged.requests(method="WEBSOCKET", status=101)) == 3, what="the lines of the sockets")
    for secret in (
        CANARY,
        shown.removeprefix("cloister.ticket."),
        gateway.project_key,
        gateway.admin_key,
        gateway.project_key.split("_")[2],
        INTERNAL_TOKEN,
    ):
        assert secret not in logged.text


def test_request_lines_name_project_and_key(logged: Logged) -> None:
    gateway, url = logged.gateway, logged.process.url
    with httpx.Client(base_url=url, headers=gateway.headers(gateway.admin_key)) as admin:
        (project,) = admin.get("/v1/organization/projects").json()["data"]
        (key,) = admin.get(f"/v1/organization/projects/{project['id']}/api_keys").json()["data"]
        (admin_key,) = admin.get("/v1/organization/admin_api_keys").json()["data"]
    caller = {"project": project["id"], "key_id": key["id"]}
    answer = httpx.post(
        f"{url}/v1/responses", json={"model": "fake", "input": "hi"}, headers=gateway.headers(), timeout=60
    )
    line = logged.request(route="/v1/responses", method="POST", **caller)
    assert line["request_id"] == answer.headers["x-request-id"]
    assert "project" not in logged.request(route="/v1/organization/projects", key_id=admin_key["id"])
    httpx.get(f"{url}/v1/conversations/x", headers=gateway.headers("clo_unknown"))
    assert not {"project", "key_id"} & logged.request(status=401).keys()
    with opened(url, gateway) as socket:
        assert socket.response is not None
        request_id = socket.response.headers["x-request-id"]
    assert logged.request(method="WEBSOCKET", status=101, **caller)["request_id"] == request_id
    with pytest.raises(InvalidStatus), opened(url, GatewayFixture(gateway.settings, "clo_unknown", "")):
        pass
    assert "key_id" not in logged.request(method="WEBSOCKET", status=401)
