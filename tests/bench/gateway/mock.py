"""A llm pod without a model that costs as little as Python allows: ``python -m tests.bench.gateway.mock --port N``.

`cloister_common.testing.llm.FakeLlm` is for tests: what it can do costs more for each token than the gateway may. This
one is a plain asyncio protocol with chunks made beforehand, so that a core carries it, the clients and Redis. It speaks
what the gateway and its peers call, in vLLM's very bytes (0.32, ``entrypoints/openai/chat_completion/serving.py``:
``model_dump_json(exclude_unset=True)``): ``/v1/chat/completions`` streamed and whole, usage at the end or continuously
where it is asked for, ``/tokenize`` by words, ``/v1/models``, ``/health``. An answer has as many tokens as
``max_tokens`` says, and ends with ``stop``. Anyone may call it.

Its own ``POST /pace`` sets how fast it answers, and ``GET /counts`` says what was asked of it.
"""

import argparse
import asyncio
import itertools
import time
from dataclasses import dataclass
from typing import Any

import httptools
import orjson
import uvloop

__all__ = ["CONTEXT_TOKENS", "MODEL", "TOKEN", "Pace", "serve"]

MODEL = "chat"
TOKEN = " fox"
"""The text of every token: readers count it."""

CONTEXT_TOKENS = 1_000_000
_DEFAULT_TOKENS = 64
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"date: Thu, 26 Nov 2026 12:00:00 GMT\r\nserver: uvicorn\r\ntransfer-encoding: chunked\r\n\r\n"
)
_DONE = b"data: [DONE]\n\n"
_ids = itertools.count(0xD00D_0000_0000_0000_0000_0000_0000_0000)


@dataclass(slots=True)
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
    pace: Pace
    counts: dict[str, int]
    model: str


class _Stream:
    """One streamed answer: writes each token when its time has come, and catches up when it is late."""

    def __init__(self, connection: "_Connection", body: dict[str, Any], state: _State) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._pace = state.pace
        self._all = _most_tokens(body)
        self._sent = 0
        options = body.get("stream_options") or {}
        self._usage = bool(options.get("include_usage"))
        self._continuous = self._usage and bool(options.get("continuous_usage_stats"))
        self._prompt = prompt_tokens(body)
        self._head = b'{"id":"chatcmpl-%x","object":"chat.completion.chunk","created":%d,"model":"%b","choices":[' % (
            next(_ids),
            int(time.time()),
            str(body.get("model") or state.model).encode(),
        )
        self._token = b'{"index":0,"delta":{"content":"%b"},"logprobs":null,"finish_reason":null,"token_ids":null}' % (
            TOKEN.encode()
        )
        self._timer = self._loop.call_later(self._pace.first_seconds, self._begin)

    def cancel(self) -> None:
        self._timer.cancel()

    def _begin(self) -> None:
        role = b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'
        first = self._chunk(role, 0, b',"prompt_token_ids":null,"prompt_text":null')
        self._started = self._loop.time()
        self._connection.write(_STREAM + _framed(first))
        self._go_on()

    def _go_on(self) -> None:
        rate = self._pace.tokens_per_second
        due = self._all
        if rate:
            due = min(self._all, 1 + int((self._loop.time() - self._started) * rate + 1e-6))
        pieces = [_framed(self._chunk(self._token, n)) for n in range(self._sent + 1, min(due, self._all - 1) + 1)]
        self._sent = due
        if due < self._all:
            self._timer = self._loop.call_at(self._started + due / rate, self._go_on)
            self._connection.write(b"".join(pieces))
            return
        last = self._token.replace(b'"finish_reason":null', b'"finish_reason":"stop","stop_reason":null')
        pieces.append(_framed(self._chunk(last, self._all)))
        if self._usage:
            pieces.append(_framed(b'data: %b],"usage":%b}\n\n' % (self._head, usage(self._prompt, self._all))))
        self._connection.write(b"".join(pieces) + _framed(_DONE) + b"0\r\n\r\n")
        self._connection.ended()

    def _chunk(self, choice: bytes, sent: int, rest: bytes = b"") -> bytes:
        if not self._continuous:
            return b"data: %b%b]%b}\n\n" % (self._head, choice, rest)
        counted = usage(self._prompt, sent)[:-1] + b',"completion_tokens_details":null}'
        return b'data: %b%b],"usage":%b%b}\n\n' % (self._head, choice, counted, rest)


class _Connection(asyncio.Protocol):
    def __init__(self, state: _State) -> None:
        self._state = state
        self._parser = httptools.HttpRequestParser(self)
        self._stream: _Stream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._url = b""
        self._body: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._state.counts["aborted"] += 1
            self.ended()
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        raw, self._body = b"".join(self._body), []
        path = self._url.decode().partition("?")[0]
        self._state.counts[path] = self._state.counts.get(path, 0) + 1
        if path == "/v1/chat/completions":
            self._chat(orjson.loads(raw))
        elif path == "/tokenize":
            count = prompt_tokens(orjson.loads(raw))
            tokens = {"count": count, "max_model_len": CONTEXT_TOKENS, "tokens": list(range(count)), "token_strs": None}
            self._reply(orjson.dumps(tokens))
        elif path == "/v1/models":
            listed = {"id": self._state.model, "object": "model", "max_model_len": CONTEXT_TOKENS}
            self._reply(orjson.dumps({"object": "list", "data": [listed]}))
        elif path == "/pace":
            self._state.pace = Pace(**orjson.loads(raw))
            self._reply(b"{}")
        elif path == "/counts":
            self._reply(orjson.dumps(self._state.counts))
        else:
            self._reply(b"{}")

    def _chat(self, body: dict[str, Any]) -> None:
        if body.get("stream"):
            self._state.counts["running"] += 1
            self._stream = _Stream(self, body, self._state)
            return
        answer = _completion(body, self._state)
        pace = self._state.pace
        seconds = pace.first_seconds + (_most_tokens(body) / pace.tokens_per_second if pace.tokens_per_second else 0)
        if seconds:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._reply, answer)
        else:
            self._reply(answer)

    def _reply(self, body: bytes) -> None:
        self.write(_OK % (len(body), body))

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def ended(self) -> None:
        self._stream = None
        self._state.counts["running"] -= 1


def prompt_tokens(body: dict[str, Any]) -> int:
    """The tokens of a chat or of a text, counted as `FakeLlm` counts them: words, and one for each message."""
    if "prompt" in body:
        return len(str(body["prompt"]).split())
    return sum(1 + len(_text(message.get("content")).split()) for message in body.get("messages") or ())


def usage(prompt: int, completion: int) -> bytes:
    """The object of that name, as vLLM orders it."""
    return b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (prompt, prompt + completion, completion)


def _most_tokens(body: dict[str, Any]) -> int:
    return int(body.get("max_completion_tokens") or body.get("max_tokens") or _DEFAULT_TOKENS)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _completion(body: dict[str, Any], state: _State) -> bytes:
    tokens = _most_tokens(body)
    return (
        b'{"id":"chatcmpl-%x","object":"chat.completion","created":%d,"model":"%b","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"%b","refusal":null,"annotations":null,"audio":null,"function_call":null,'
        b'"tool_calls":[],"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null}'
        b'],"service_tier":null,"system_fingerprint":null,"usage":%b,"prompt_logprobs":null,"prompt_token_ids":null,'
        b'"kv_transfer_params":null}'
    ) % (
        next(_ids),
        int(time.time()),
        str(body.get("model") or state.model).encode(),
        (TOKEN * tokens).encode(),
        usage(prompt_tokens(body), tokens),
    )


async def serve(port: int, model: str = MODEL) -> asyncio.Server:
    """Serves a pod on the loopback interface until the server that it gives is closed."""
    state = _State(Pace(), {"running": 0, "aborted": 0}, model)
    return await asyncio.get_running_loop().create_server(lambda: _Connection(state), "127.0.0.1", port, backlog=4096)


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    server = await serve(parser.parse_args().port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main())
