"""A llm pod without a model that costs as little as Python allows: ``python -m tests.bench.gateway.mock --port N``.

`cloister_common.testing.llm.FakeLlm` is for tests: what it can do costs more for each token than the gateway may. This
one is a plain asyncio protocol that sends prepared bytes, so that one core carries it, the clients and Redis. It
speaks what the gateway and its peers call: ``/v1/chat/completions`` streamed and whole, ``/v1/responses`` streamed,
``/tokenize`` by words, ``/v1/models``; to all else, as to ``/health``, it answers an empty object. An answer has as
many tokens as the request allows, and ends with ``stop``. Anyone may call it.

Its own ``POST /pace`` sets how fast it answers, and ``GET /counts`` says what was asked of it.
"""

import argparse
import asyncio
from dataclasses import dataclass, field
from typing import Any

import httptools
import orjson
import uvloop

from tests.bench.gateway.mock_events import ChatEvents, Events, ResponseEvents, completion, most_tokens, prompt_tokens

__all__ = ["CONTEXT_TOKENS", "MODEL", "Pace", "serve"]

MODEL = "chat"
CONTEXT_TOKENS = 32_768
"""As a gateway is told. A thousand items of the benchmark are more, so that counting and leaving out is measured."""

_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_STREAM = (
    b"HTTP/1.1 200 OK\r\ndate: Thu, 26 Nov 2026 12:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
_LAST_PIECE = b"0\r\n\r\n"
_STREAMS: dict[str, type[Events]] = {"/v1/chat/completions": ChatEvents, "/v1/responses": ResponseEvents}


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast it answers. The body of ``POST /pace``.

    Attributes:
        tokens_per_second: Of each stream, each by its own clock; 0 sends the whole answer in one write.
        first_seconds: Before the first token.
    """

    tokens_per_second: float = 0.0
    first_seconds: float = 0.0


@dataclass(slots=True)
class _State:
    pace: Pace = field(default_factory=Pace)
    counts: dict[str, int] = field(default_factory=lambda: {"running": 0, "aborted": 0})


class _Stream:
    """One streamed answer: writes each token when its time has come, and catches up when it is late."""

    def __init__(self, connection: "_Connection", events: Events, pace: Pace) -> None:
        self._connection = connection
        self._events = events
        self._rate = pace.tokens_per_second
        self._sent = 0
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time() + pace.first_seconds
        self._timer = self._loop.call_at(self._started, self._begin)

    def cancel(self) -> None:
        self._timer.cancel()

    def _begin(self) -> None:
        self._connection.write(_STREAM + _piece(self._events.head()))
        self._go_on()

    def _go_on(self) -> None:
        last = self._events.tokens
        due = last
        if self._rate:
            due = min(last, 1 + int((self._loop.time() - self._started) * self._rate + 1e-6))
        pieces = [_piece(self._events.token(number)) for number in range(self._sent + 1, due + 1)]
        self._sent = due
        if due == last:
            pieces += [_piece(self._events.tail()), _LAST_PIECE]
        else:
            self._timer = self._loop.call_at(self._started + due / self._rate, self._go_on)
        self._connection.write(b"".join(pieces))
        if due == last:
            self._connection.ended()


class _Connection(asyncio.Protocol):
    def __init__(self, state: _State) -> None:
        self._state = state
        self._parser = httptools.HttpRequestParser(self)
        self._stream: _Stream | None = None
        self._path = ""
        self._body: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._state.counts["aborted"] += 1
            self.ended()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url.decode().partition("?")[0]

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        raw, self._body = b"".join(self._body), []
        counts = self._state.counts
        counts[self._path] = counts.get(self._path, 0) + 1
        body = orjson.loads(raw) if raw else {}
        if body.get("stream") and self._path in _STREAMS:
            counts["running"] += 1
            self._stream = _Stream(self, _STREAMS[self._path](body), self._state.pace)
        elif self._path == "/v1/chat/completions":
            self._complete(body)
        else:
            self._reply(orjson.dumps(self._answer(body)))

    def write(self, data: bytes) -> None:
        """Sends it, unless the caller has left."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def ended(self) -> None:
        """Notes that the stream is over."""
        self._stream = None
        self._state.counts["running"] -= 1

    def _answer(self, body: dict[str, Any]) -> Any:
        if self._path == "/tokenize":
            count = prompt_tokens(body)
            return {"count": count, "max_model_len": CONTEXT_TOKENS, "tokens": list(range(count)), "token_strs": None}
        if self._path == "/v1/models":
            return {"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": CONTEXT_TOKENS}]}
        if self._path == "/pace":
            self._state.pace = Pace(**body)
        return self._state.counts if self._path == "/counts" else {}

    def _complete(self, body: dict[str, Any]) -> None:
        pace = self._state.pace
        seconds = pace.first_seconds
        if pace.tokens_per_second:
            seconds += most_tokens(body) / pace.tokens_per_second
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self._reply, completion(body))
        else:
            self._reply(completion(body))

    def _reply(self, body: bytes) -> None:
        self.write(_WHOLE % (len(body), body))


def _piece(data: bytes) -> bytes:
    """A chunk of HTTP."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(port: int) -> asyncio.Server:
    """Serves a pod on the loopback interface until the server that it gives is closed."""
    state = _State()
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Connection(state), "127.0.0.1", port, backlog=4096)


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    server = await serve(parser.parse_args().port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main())
