"""HTTP as older and other clients speak it: HTTP/1.0, ``Expect``, upgrades to what is not spoken here, odd targets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from cloister_common.app import create_base_app
from cloister_common.doors.door import Door
from cloister_common.doors.http import BoundedHttp
from cloister_common.settings import ConnectionLimits
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse
from uvicorn.server import ServerState

from tests.support.waiting import until

LIMIT = 200_000
UPGRADE = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
"""What Java's HttpClient sends with each request that is not encrypted."""


class Transport:
    """Stands for uvloop's; keeps what was written."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.closed = self.aborted = self.ended = False
        self.protocol: Any = None

    def get_extra_info(self, _: str) -> None:
        return None

    def is_closing(self) -> bool:
        return self.closed

    def get_protocol(self) -> Any:
        return self.protocol

    def write(self, data: bytes) -> None:
        assert not self.closed
        assert not self.ended
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True


class Client:
    """One connection to the application."""

    def __init__(self, app: Any) -> None:
        class Config:
            loaded = True
            loaded_app = staticmethod(app)
            ws_protocol_class = None
            root_path = ""
            asgi_version = "3.0"
            limit_concurrency = None
            timeout_keep_alive = 5
            reset_contextvars = False

        self.transport = Transport()
        self.server = BoundedHttp(
            config=cast("Any", Config), server_state=ServerState(), app_state={}, door=Door(ConnectionLimits())
        )
        self.transport.protocol = self.server
        self.server.connection_made(cast("Any", self.transport))

    def send(self, data: bytes) -> None:
        self.server.data_received(data)

    async def answer(self) -> tuple[bytes, bytes]:
        """Head and body of one answer with a length, or of one that ends with the connection."""
        await until(self._complete, what=f"an answer ({self.transport.written!r})")
        head, _, rest = self.transport.written.partition(b"\r\n\r\n")
        length = self._length(head)
        length = len(rest) if length is None else length
        self.transport.written = rest[length:]
        return head, rest[:length]

    def _complete(self) -> bool:
        head, found, rest = self.transport.written.partition(b"\r\n\r\n")
        length = self._length(head)
        ended = self.transport.closed or self.transport.ended
        return bool(found) and (ended or (length is not None and len(rest) >= length))

    @staticmethod
    def _length(head: bytes) -> int | None:
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return int(lengths[0]) if lengths else None


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = create_base_app(title="test", lifespan=lifespan, checks=lambda _: {}, max_body_bytes=LIMIT)

    @app.post("/size")
    async def size(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"one "
            await asyncio.sleep(0)
            yield b"two"

        return StreamingResponse(pieces())

    client = Client(app)
    yield client
    client.server.connection_lost(None)


def post(body: bytes, headers: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST /size HTTP/%b\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (version, headers, len(body), body)


@pytest.mark.parametrize("asked", [b"", b"connection: close\r\n"])
async def test_an_answer_to_http_1_0_ends_the_connection(client: Client, asked: bytes) -> None:
    client.send(b"GET /livez HTTP/1.0\r\n" + asked + b"\r\n")
    head, body = await client.answer()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in head
    assert (json.loads(body), client.transport.closed) == ({"status": "ok"}, True)


async def test_http_1_0_may_ask_for_the_connection_to_stay(client: Client) -> None:
    for _ in range(2):
        client.send(post(b"abc", b"Connection: Keep-Alive\r\n", b"1.0"))
        head, body = await client.answer()
        assert b"connection: keep-alive" in head
        assert (json.loads(body), client.transport.closed) == ({"bytes": 3}, False)


@pytest.mark.parametrize("asked", [b"", b"connection: keep-alive\r\n"])
async def test_a_stream_to_http_1_0_has_no_chunks_and_ends_with_the_connection(client: Client, asked: bytes) -> None:
    client.send(b"GET /stream HTTP/1.0\r\n" + asked + b"\r\n")
    head, body = await client.answer()
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert (body, client.transport.closed) == (b"one two", True)


async def test_a_stream_to_http_1_1_has_chunks(client: Client) -> None:
    client.send(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
    await until(lambda: client.transport.written.endswith(b"0\r\n\r\n"), what="the last chunk")
    assert b"transfer-encoding: chunked" in client.transport.written
    assert not client.transport.closed


async def test_http_1_0_is_never_told_to_continue(client: Client) -> None:
    client.send(b"POST /size HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
    client.send(b"abc")
    head, body = await client.answer()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body) == {"bytes": 3}


async def test_a_body_is_asked_for_when_it_will_be_read(client: Client) -> None:
    client.send(b"POST /size HTTP/1.1\r\nhost: x\r\nExpect: 100-Continue\r\ncontent-length: 3\r\n\r\n")
    await until(lambda: bool(client.transport.written), what="100 Continue")
    assert client.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.transport.written = b""
    client.send(b"abc")
    head, body = await client.answer()
    assert b"connection: close" not in head
    assert json.loads(body) == {"bytes": 3}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /size HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 900000\r\n", 413),
        (b"POST /nowhere HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 3\r\n", 404),
        (b"POST /size HTTP/1.1\r\nexpect: 100-continue\r\ncontent-encoding: br\r\ncontent-length: 3\r\n", 415),
        (b"POST /size HTTP/1.1\r\nexpect: a-miracle\r\ncontent-length: 3\r\n", 417),
    ],
)
async def test_a_body_that_will_not_be_read_is_refused_before_it_is_sent(
    client: Client, head: bytes, status: int
) -> None:
    client.send(head + b"host: x\r\n\r\n")
    answer, body = await client.answer()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in answer
    assert json.loads(body)["error"]["message"]
    # Who sends it all the same is listened to for a while: a reset could take the answer away.
    assert (client.transport.ended, client.transport.closed) == (True, False)
    client.send(b"abc")
    assert not client.transport.closed


async def test_the_last_answer_is_not_reset_by_the_rest_of_a_body(client: Client) -> None:
    client.send(b"POST /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 900\r\n\r\nabc")
    head, _ = await client.answer()
    assert head.startswith(b"HTTP/1.1 404 ")
    assert (client.transport.ended, client.transport.closed) == (True, False)
    client.send(b"x" * 300_000)
    assert client.transport.aborted


@pytest.mark.parametrize("split", [0, 10, -3])
@pytest.mark.parametrize("size", [3, 100_000])
async def test_an_upgrade_that_is_not_spoken_is_passed_over(client: Client, size: int, split: int) -> None:
    request = post(b"x" * size, UPGRADE)
    for data in (request[:split], request[split:]) if split else (request,):
        client.send(data)
    head, body = await client.answer()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body) == {"bytes": size}
    # The connection goes on, with requests that ask for it again.
    client.send(b"GET /livez HTTP/1.1\r\nhost: x\r\n" + UPGRADE + b"\r\n" + post(b"four", UPGRADE))
    assert json.loads((await client.answer())[1]) == {"status": "ok"}
    assert json.loads((await client.answer())[1]) == {"bytes": 4}


async def test_an_upgrade_keeps_what_else_the_connection_is_told(client: Client) -> None:
    client.send(post(b"abc", UPGRADE.replace(b"Upgrade,", b"Upgrade, close,")))
    head, body = await client.answer()
    assert b"connection: close" in head
    assert (json.loads(body), client.transport.closed) == ({"bytes": 3}, True)


@pytest.mark.parametrize("target", [b"http://x:8080/livez", b"HTTP://x/livez?utm=1", b"/livez/", b"//livez"])
async def test_a_target_may_be_written_in_other_ways(client: Client, target: bytes) -> None:
    client.send(b"GET %b HTTP/1.1\r\nhost: x\r\nte: trailers\r\naccept: image/png\r\n\r\n" % target)
    assert json.loads((await client.answer())[1]) == {"status": "ok"}
