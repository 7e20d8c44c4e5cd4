"""vLLM's own server with our limits on connections; `tests/integration/common/test_doors.py` has each of them."""

import contextlib
import json
import socket
from typing import Any

import httpx

from tests.support.llm import LlmServer

HEAD = b"POST /tokenize HTTP/1.1\r\nhost: x\r\n"


def connect(llm: LlmServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", llm.port), 60)


def error_of(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and error object of the answer that ends the connection."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def test_a_head_that_is_too_large_is_a_431(llm: LlmServer) -> None:
    for text in (b"x: " + b"a" * 40_000, b"a:b\r\n" * 101):
        with connect(llm) as connection:
            connection.sendall(HEAD + text)
            assert error_of(connection)[0] == 431


def test_a_head_and_a_body_that_do_not_end_are_408s(llm: LlmServer) -> None:
    with connect(llm) as half_a_head, connect(llm) as half_a_body:
        half_a_head.sendall(HEAD)
        token = llm.headers["authorization"].encode()
        half_a_body.sendall(HEAD + b"authorization: " + token + b"\r\ncontent-length: 100\r\n\r\n{")
        for connection in (half_a_head, half_a_body):
            status, error = error_of(connection)
            assert (status, error["code"]) == (408, "request_timeout")


async def test_a_compressed_body_is_refused_by_that_name(client: httpx.AsyncClient) -> None:
    response = await client.post("/tokenize", content=b"x", headers={"content-encoding": "gzip"})
    assert (response.status_code, response.json()["error"]["param"]) == (415, "Content-Encoding")
