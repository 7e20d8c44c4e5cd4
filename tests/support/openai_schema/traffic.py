"""Checks all that gateways send to the clients of tests against OpenAI's schema: a plugin of pytest.

It stands below the clients, in the transports of httpx (and httpx2, which OpenAI's SDK uses) and in `recv` of
websockets: so every answer and event of every test is checked that reads it in this process, through the unmodified
SDK or without. A call counts that carries an API key of ours, which calls between services do not. A test during which
something was wrong fails at its end, since a client turns an error within its transport into one of its own.

``@pytest.mark.foreign_answers`` is for tests whose gateway passes on what is another's: of a stand-in behind it, or of
an older version that stored it.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
from websockets.asyncio.client import ClientConnection as AsyncSocket
from websockets.sync.client import ClientConnection as Socket

from tests.support.openai_schema.checker import SCHEMA
from tests.support.openai_schema.routes import ERROR, answer_of, event_of, socket_event_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

_KEY = "Bearer clo_"
_FOREIGN = "foreign_answers"
_MOST_SHOWN = 10

_faults: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """Puts itself below the clients, for the whole run."""
    config.addinivalue_line("markers", f"{_FOREIGN}: the gateway passes on what a stand-in or an older version wrote")
    for library in (httpx, httpx2):
        _watch_transport(library.HTTPTransport, library.SyncByteStream)
        _watch_async_transport(library.AsyncHTTPTransport, library.AsyncByteStream)
    _watch_socket(Socket)
    _watch_async_socket(AsyncSocket)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fails the test if anything was wrong meanwhile."""
    _faults.clear()
    result = yield
    if _faults and item.get_closest_marker(_FOREIGN) is None:
        found, rest = _faults[:_MOST_SHOWN], len(_faults) - _MOST_SHOWN
        more = f"\n… and {rest} more" if rest > 0 else ""
        pytest.fail(f"{item.name}: not as OpenAI's schema has it:\n" + "\n".join(found) + more, pytrace=False)
    return result


def check_answer(method: str, path: str, status: int, kind: str, raw: bytes) -> list[str]:
    """The faults of a whole answer."""
    path = re.sub("/+", "/", path).rstrip("/")  # as the gateway reads a URL
    where = f"{method} {path} ({status})"
    if method == "HEAD" or status == 204:
        return []
    try:
        if kind.startswith("text/event-stream"):
            fact = event_of(path)
            return [fault for event in _events(raw) for fault in SCHEMA.faults(_or_error(fact, event), event, where)]
        fact = ERROR if status >= 400 else answer_of(method, path)
        return [] if fact is None else SCHEMA.faults(fact, json.loads(raw), where)
    except (ValueError, LookupError) as error:
        return [f"{where}: {error}"]


def _or_error(fact: Any, event: Any) -> Any:
    # A chat completion's stream ends with OpenAI's error object where it cannot go on.
    return ERROR if isinstance(event, dict) and set(event) == {"error"} else fact


def _events(raw: bytes) -> Iterator[Any]:
    # What stands behind the last empty line was cut off, by the reader or by the test.
    for block in re.split(rb"\n\n", raw)[:-1]:
        data = [line.removeprefix(b"data: ") for line in block.split(b"\n") if line.startswith(b"data: ")]
        if data and data != [b"[DONE]"]:
            yield json.loads(b"\n".join(data))


class _Answer:
    """One answer on its way to a client."""

    def __init__(self, request: Any, response: Any) -> None:
        self._request = request
        self._response = response
        self._pieces: list[bytes] = []
        self.whole = False

    def add(self, piece: bytes) -> bytes:
        self._pieces.append(piece)
        return piece

    def check(self) -> None:
        kind = self._response.headers.get("content-type", "")
        raw = b"".join(self._pieces)
        self._pieces.clear()
        if raw and (self.whole or kind.startswith("text/event-stream")):
            _faults.extend(
                check_answer(self._request.method, self._request.url.path, self._response.status_code, kind, raw)
            )


def _is_ours(request: Any) -> bool:
    path: str = request.url.path
    authorization: str = request.headers.get("authorization", "")
    return path.startswith("/v1/") and authorization.startswith(_KEY)


def _watch_transport(transport: type[Any], base: type[Any]) -> None:
    class Watched(base):  # type: ignore[misc]
        def __init__(self, inner: Any, answer: _Answer) -> None:
            self._inner, self._answer = inner, answer

        def __iter__(self) -> Iterator[bytes]:
            for piece in self._inner:
                yield self._answer.add(piece)
            self._answer.whole = True

        def close(self) -> None:
            self._inner.close()
            self._answer.check()

    original = transport.handle_request

    @functools.wraps(original)
    def handle_request(self: Any, request: Any) -> Any:
        response = original(self, request)
        if _is_ours(request):
            response.stream = Watched(response.stream, _Answer(request, response))
        return response

    transport.handle_request = handle_request


def _watch_async_transport(transport: type[Any], base: type[Any]) -> None:
    class Watched(base):  # type: ignore[misc]
        def __init__(self, inner: Any, answer: _Answer) -> None:
            self._inner, self._answer = inner, answer

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in self._inner:
                yield self._answer.add(piece)
            self._answer.whole = True

        async def aclose(self) -> None:
            await self._inner.aclose()
            self._answer.check()

    original = transport.handle_async_request

    @functools.wraps(original)
    async def handle_async_request(self: Any, request: Any) -> Any:
        response = await original(self, request)
        if _is_ours(request):
            response.stream = Watched(response.stream, _Answer(request, response))
        return response

    transport.handle_async_request = handle_async_request


def _watch_socket(connection: type[Any]) -> None:
    original = connection.recv

    @functools.wraps(original)
    def recv(self: Any, *args: Any, **options: Any) -> Any:
        message = original(self, *args, **options)
        _check_message(self, message)
        return message

    connection.recv = recv


def _watch_async_socket(connection: type[Any]) -> None:
    original = connection.recv

    @functools.wraps(original)
    async def recv(self: Any, *args: Any, **options: Any) -> Any:
        message = await original(self, *args, **options)
        _check_message(self, message)
        return message

    connection.recv = recv


def _check_message(connection: Any, message: str | bytes) -> None:
    path = connection.request.path.partition("?")[0]
    if path != "/v1/responses":
        return
    try:
        event = json.loads(message)
    except ValueError as error:
        _faults.append(f"WebSocket {path}: {error}")
        return
    if isinstance(event, dict):
        event.pop("stream_id", None)  # OpenAI's lanes: each event carries the name of its own, if it has one.
    _faults.extend(SCHEMA.faults(socket_event_of(event), event, f"WebSocket {path}"))
