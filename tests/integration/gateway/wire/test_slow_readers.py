"""Readers over HTTP that stop reading are cut off: nothing is held for them."""

import json
import socket as sockets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_gateway.app import create_app
from cloister_gateway.context import Context

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import GatewayFixture
from tests.support.waiting import wait_until

PIECE = "x" * 20_000
"""A thousand are more than the buffers between gateway and client take, four thousand more than all on the way."""


@pytest.fixture
def impatient(make_gateway: Callable[..., GatewayFixture]) -> GatewayFixture:
    return make_gateway(responses={"send_seconds": 1})


@pytest.fixture
def at(impatient: GatewayFixture) -> Iterator[tuple[str, Context]]:
    """One gateway: its address and its inside."""
    app = create_app(impatient.settings)
    with served(app) as url:
        yield url, app.state.context


@contextmanager
def stalled(url: str, key: str, method: str, path: str, body: dict[str, Any] | None = None) -> Iterator[None]:
    """A client that asks and never reads, with a small receive buffer."""
    host, port = url.removeprefix("http://").split(":")
    raw = b"" if body is None else json.dumps(body).encode()
    with sockets.socket() as socket:
        socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 8192)
        socket.connect((host, int(port)))
        head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
        socket.sendall(head.encode() + raw)
        yield


def test_a_stalled_reader_of_a_run_is_let_go(impatient: GatewayFixture, at: tuple[str, Context], llm: FakeLlm) -> None:
    url, context = at
    llm.answer = [PIECE] * 1000
    llm.hold_after = 1
    created = sdk(url, impatient).responses.create(model="fake", input="hi", background=True)
    with stalled(url, impatient.project_key, "GET", f"/v1/responses/{created.id}?stream=true"):
        wait_until(lambda: context.hub.held[created.id].watchers == 1, what="the reader")
        llm.release()
        wait_until(lambda: created.id not in context.hub.held, seconds=60, what="the end of the feed")


def test_a_stalled_caller_of_a_chat_lets_the_pod_go_and_is_not_its_fault(
    impatient: GatewayFixture, at: tuple[str, Context], llm: FakeLlm
) -> None:
    url, context = at
    llm.answer = [PIECE] * 4000
    body = {"model": "fake", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with stalled(url, impatient.project_key, "POST", "/v1/chat/completions", body):
        wait_until(lambda: llm.running == 1)
        wait_until(lambda: llm.running == 0, what="the end of the generation")
    assert llm.aborted == 1
    assert [pod.out_until for pod in context.llm.fleet["fake"].all] == [0.0]
