"""The probes against real listeners: a part is ready when it says so, and a reason is given while it is not."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.local.readiness import http_probe, port_probe, redis_probe
from tests.support.certificates import certificate_for
from tests.support.redis_server import RedisServer


@asynccontextmanager
async def answering(status: str, body: object, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """An HTTP server that gives one answer to everything; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        content = json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + content)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_service_that_says_ready_is_ready() -> None:
    async with answering("200 OK", {"status": "ready", "parts": {}}) as port:
        assert await http_probe(f"http://127.0.0.1:{port}/readyz")() is None


async def test_the_parts_that_are_not_ready_are_named() -> None:
    body = {"status": "not ready", "parts": {"redis": "ready", "embedder": "no answer within 5 s"}}
    async with answering("503 Service Unavailable", body) as port:
        assert await http_probe(f"http://127.0.0.1:{port}/readyz")() == "embedder: no answer within 5 s"


async def test_another_server_on_the_port_is_not_taken_for_ready() -> None:
    async with answering("404 Not Found", ["something else"]) as port:
        assert await http_probe(f"http://127.0.0.1:{port}/readyz")() == "status 404"


async def test_nobody_there_is_a_reason() -> None:
    assert await http_probe("http://127.0.0.1:1/readyz")() == "no answer (ConnectError)"
    assert await port_probe(1)() == "no answer (ConnectionRefusedError)"


async def test_only_the_configured_certificate_is_accepted(tmp_path: Path) -> None:
    certificate_file, key_file = certificate_for("192.0.2.1", tmp_path / "one")  # need not be for this address
    other_file, _ = certificate_for("192.0.2.1", tmp_path / "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    async with answering("200 OK", {}, context) as port:
        url = f"https://127.0.0.1:{port}/readyz"
        assert await http_probe(url, certificate_file)() is None
        assert await http_probe(url, other_file)() == "no answer (ConnectError)"


async def test_redis_is_ready_when_it_answers_with_the_right_password(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        assert await redis_probe(server.port, server.password)() is None
        assert await redis_probe(server.port, "another")() == "-NOAUTH Authentication required."
    finally:
        server.stop()
    assert await redis_probe(server.port, server.password)() == "no answer (ConnectionRefusedError)"
