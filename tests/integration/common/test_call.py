"""Calls to another part on a real socket: one that is away is given up soon, one that is slow has its time."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import httpx
import pytest
from cloister_common.clients.call import AWAY_SECONDS, call
from cloister_common.errors import Unavailable
from cloister_common.http import http_client
from cloister_common.settings import ClientTls
from cloister_common.testing.serving import free_port, served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.stopwatch import stopwatch

SOON = AWAY_SECONDS + 1.0
"""With room for a busy machine; far from the deadline."""

DEADLINE_SECONDS = 30.0


async def asked(url: str) -> httpx.Response:
    async with http_client(url, tls=ClientTls(), timeout_seconds=DEADLINE_SECONDS) as client:
        return await call(
            client, "part", "GET", "/", headers={}, deadline_seconds=DEADLINE_SECONDS, away_seconds=AWAY_SECONDS
        )


@contextlib.contextmanager
def listener() -> Iterator[str]:
    """Takes connections, and never says a word: a process that hangs, or a machine that is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


async def refused(url: str) -> tuple[Unavailable, float]:
    with stopwatch() as waiting, pytest.raises(Unavailable) as away:
        await asked(url)
    return away.value, waiting.seconds


async def test_a_part_that_refuses_connections_is_given_up_soon() -> None:
    error, seconds = await refused(f"http://127.0.0.1:{free_port()}")
    assert seconds < SOON
    assert error.error_code == "upstream_unreachable"
    assert error.retry_after is not None


async def test_a_part_that_is_silent_is_given_up_soon() -> None:
    with listener() as url:
        error, seconds = await refused(url)
    assert seconds < SOON
    assert (error.error_code, error.retry_after is not None) == ("upstream_unreachable", True)


async def test_a_part_that_is_not_ready_is_given_up_soon_with_its_own_words() -> None:
    async def answer(_: Request) -> Response:
        return JSONResponse({"error": {"message": "Loading.", "code": "loading"}}, status_code=503)

    with served(Starlette(routes=[Route("/", answer)])) as url:
        error, seconds = await refused(url)
    assert seconds < SOON
    assert (error.message, error.error_code) == ("Loading.", "loading")


async def test_a_part_that_is_slow_but_lives_has_its_time() -> None:
    async def slow(_: Request) -> Response:
        await asyncio.sleep(AWAY_SECONDS * 2)
        return Response("done")

    async def alive(_: Request) -> Response:
        return Response("ok")

    with served(Starlette(routes=[Route("/", slow), Route("/livez", alive)])) as url:
        assert (await asked(url)).text == "done"


async def test_a_part_that_comes_back_in_time_is_asked_again() -> None:
    async def answer(_: Request) -> Response:
        return Response("back")

    port = free_port()
    asking = asyncio.ensure_future(asked(f"http://127.0.0.1:{port}"))
    await asyncio.sleep(0)
    with served(Starlette(routes=[Route("/", answer)]), port):
        assert (await asking).text == "back"
