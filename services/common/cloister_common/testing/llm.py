"""A llm pod without a model: vLLM's chat API on a socket, with tokens, pauses and failures as the test sets them.

It speaks what `cloister_llm` pods speak and the gateway uses: ``/v1/chat/completions`` (streamed or not, several
choices, usage, logprobs, ``continue_final_message``, tool calls, reasoning), ``/v1/completions``, ``/tokenize``,
``/v1/models``, ``/cloister/load`` and ``/health``; all else is a 404, and all but ``/health`` need the internal token.
A "token" is a word of the prompt or one entry of `answer`.

The attributes may be changed from any thread while it serves.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import orjson
from starlette.types import Receive, Scope, Send

from cloister_common.disconnect import disconnected
from cloister_common.internal import InternalTokens
from cloister_common.testing import llm_shapes as shapes
from cloister_common.testing.llm_shapes import Body, Call
from cloister_common.testing.llm_texts import is_text, text_answer, text_chunks, text_frame

__all__ = ["Call", "FakeLlm", "RecordedRequest"]

_HOLD_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A call as the pod received it."""

    path: str
    headers: dict[str, str]
    body: Body


class _AbortedError(Exception):
    """The caller went away."""


class _DroppedError(Exception):
    """The pod "dies": the server closes the connection in the middle."""


@dataclass(eq=False)
class FakeLlm:
    """The pod; an ASGI application.

    Attributes:
        model: The public name it serves.
        token: The internal token it asks for; None asks for none.
        context_tokens: Longest prompt and answer together, in words.
        answer: The tokens of every answer.
        calls: The calls that end it. Each has one token for its name, and one for each piece of its arguments.
        respond: If set, gives tokens and calls for a request body instead of ``answer`` and ``calls``.
        reasoning: The tokens of every thought before an answer, as vLLM's reasoning parser sets them apart. Not where
            the request turns thinking off, nor where it goes on from an answer.
        mistakes_answers: Whether that parser takes an answer that is gone on with for a thought, as those do that wait
            for the end of one.
        tool_call: ``(name, arguments)``: if set, answers are this call instead.
        delay_seconds: Pause before each token.
        first_delay_seconds: Pause before the first one, in addition.
        hold_after: Number of tokens after which it waits until `release` (or for ever).
        drop_after: Number of tokens after which it closes the connection; with 0 it answers a bare 500 instead.
        error_after: Number of tokens after which it sends an error event, as vLLM does.
        refuse_status: If set, every call is answered with this status and an error of vLLM's shape.
        waiting: How many requests it says are in its queue.
        ending: Whether it says that it is about to end.
        requests: All calls so far.
        running: Generations running now.
        most_running: The most there ever were.
        sent: How many tokens of the newest stream are out.
        aborted: Generations that ended because the caller went away.
    """

    model: str = "fake"
    token: str | None = None
    context_tokens: int = 2048
    answer: Sequence[str] = ("Hello", ",", " this", " is", " the", " fake", ".")
    calls: Sequence[Call] = ()
    respond: Callable[[Body], Sequence[str | Call]] | None = None
    reasoning: Sequence[str] = ()
    mistakes_answers: bool = False
    tool_call: tuple[str, str] | None = None
    delay_seconds: float = 0.0
    first_delay_seconds: float = 0.0
    hold_after: int | None = None
    drop_after: int | None = None
    error_after: int | None = None
    refuse_status: int | None = None
    waiting: int = 0
    ending: bool = False
    requests: list[RecordedRequest] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    sent: int = 0
    aborted: int = 0

    def release(self) -> None:
        """Lets held generations go on."""
        self.hold_after = None

    def chats(self) -> list[Body]:
        """The bodies of all chat calls so far."""
        return [request.body for request in self.requests if request.path == "/v1/chat/completions"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        assert scope["type"] == "http"
        path, method = scope["path"], scope["method"]
        if (method, path) == ("GET", "/health"):
            await _reply(send, 200, {})
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if self.token is not None and not InternalTokens([self.token.encode()]).accepts(headers.get("authorization")):
            await _reply(send, 401, _error("This is an internal service.", "authentication_error", 401))
            return
        if (method, path) == ("GET", "/v1/models"):
            listed = {"id": self.model, "object": "model", "max_model_len": self.context_tokens}
            await _reply(send, 200, {"object": "list", "data": [listed]})
            return
        if (method, path) == ("GET", "/cloister/load"):
            await _reply(send, 200, {"running": self.running, "waiting": self.waiting, "ending": self.ending})
            return
        if method != "POST" or path not in {"/v1/chat/completions", "/v1/completions", "/tokenize"}:
            await _reply(send, 404, _error(f"Invalid URL ({method} {path})", "NotFoundError", 404))
            return
        body = orjson.loads(await _read(receive))
        self.requests.append(RecordedRequest(path, headers, body))
        if self.refuse_status is not None:
            await _reply(send, self.refuse_status, _error("refused as the test asked", "TestError", self.refuse_status))
        elif path == "/tokenize":
            count = shapes.prompt_tokens(body)
            await _reply(
                send, 200, {"count": count, "max_model_len": self.context_tokens, "tokens": list(range(count))}
            )
        else:
            await self._chat(body, receive, send)

    async def _chat(self, body: Body, receive: Receive, send: Send) -> None:
        prompt = shapes.prompt_tokens(body)
        if prompt >= self.context_tokens:
            message = (
                f"This model's maximum context length is {self.context_tokens} tokens. However, your prompt contains "
                f"{prompt} input tokens, which exceeds this limit even without any output tokens."
            )
            await _reply(send, 400, _error(message, "BadRequestError", 400, param="input_tokens"))
            return
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            if body.get("stream"):
                await self._stream(body, prompt, gone, send)
            else:
                tokens, finish = self._tokens(body)
                for index in range(len(tokens) + 1):
                    await self._pace(index, gone)
                await _reply(send, 200, self._completion(body, prompt, tokens, finish))
        except _AbortedError:
            self.aborted += 1
        finally:
            self.running -= 1
            gone.cancel()

    async def _stream(self, body: Body, prompt: int, gone: "asyncio.Future[None]", send: Send) -> None:
        tokens, finish = self._tokens(body)
        await self._pace(0, gone)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        frame = (
            text_frame(self.model)
            if is_text(body)
            else {
                "id": f"chatcmpl-{time.monotonic_ns():x}",
                "object": "chat.completion.chunk",
                "created": int(time.time()),
                "model": self.model,
            }
        )
        sent = self.sent = 0
        for chunk in self._chunks(body, tokens, finish):
            if chunk is not None:
                await _event(send, {**frame, "choices": [chunk]})
                self.sent = sent
                continue
            if sent:
                await self._pace(sent, gone)
            if self.error_after is not None and sent >= self.error_after:
                await _event(send, _error("the engine died", "InternalServerError", 500))
                await _done(send)
                return
            sent += 1
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = self._usage(body, prompt, tokens)
            await _event(send, {**frame, "choices": [], "usage": usage})
        await _done(send)

    def _chunks(self, body: Body, tokens: Sequence[Body], finish: str) -> Iterator[Body | None]:
        """The choices of a stream, with None where the next token's time has come."""
        if is_text(body):
            yield from text_chunks(body, shapes.texts(tokens), finish)
            return
        choices = range(int(body.get("n") or 1))
        for index in choices:
            yield shapes.choice(index, {"role": "assistant", "content": ""})
        for number, token in enumerate(tokens, start=1):
            yield None
            for index in choices:
                last = finish if number == len(tokens) else None
                yield {**shapes.choice(index, token, last), "logprobs": shapes.logprobs(body, [token])}
        if not tokens:
            for index in choices:
                yield shapes.choice(index, {"content": ""}, finish)

    async def _pace(self, sent: int, gone: "asyncio.Future[None]") -> None:
        """Waits and fails as set for the moment when ``sent`` tokens are out."""
        if self.drop_after is not None and sent >= self.drop_after:
            raise _DroppedError
        pause = self.delay_seconds + (self.first_delay_seconds if sent == 0 else 0.0)
        await asyncio.wait({gone}, timeout=pause)
        while self.hold_after is not None and sent >= self.hold_after and not gone.done():
            await asyncio.wait({gone}, timeout=_HOLD_POLL_SECONDS)
        if gone.done():
            raise _AbortedError

    def _thoughts(self, body: Body) -> Sequence[str]:
        switches = body.get("chat_template_kwargs") or {}
        off = is_text(body) or body.get("continue_final_message") or switches.get("enable_thinking") is False
        return () if off else self.reasoning

    def _usage(self, body: Body, prompt: int, tokens: Sequence[Body]) -> Body:
        count = shapes.answers(body)
        usage = shapes.usage(prompt, len(tokens) * count)
        if self.reasoning:
            thoughts = sum("reasoning" in token for token in tokens)
            usage["completion_tokens_details"] = {"reasoning_tokens": thoughts * count}
        return usage

    def _tokens(self, body: Body) -> tuple[Sequence[Body], str]:
        """The answer as deltas of a stream, and why it ends."""
        answer = self.respond(body) if self.respond is not None else [*self.answer, *self.calls]
        if self.tool_call is not None:
            answer = [Call(*self.tool_call)]
        texts = [part for part in answer if isinstance(part, str)]
        if body.get("continue_final_message"):
            texts = shapes.rest(texts, str(body["messages"][-1].get("content") or ""))
        mistaken = self.mistakes_answers and body.get("continue_final_message")
        tokens: list[Body] = [{"reasoning": text} for text in self._thoughts(body)]
        tokens += [{"reasoning" if mistaken else "content": text} for text in texts]
        calls = [part for part in answer if isinstance(part, Call)]
        if not body.get("tools") or body.get("tool_choice") == "none":
            calls = []
        elif body.get("parallel_tool_calls") is False:
            calls = calls[:1]
        for index, call in enumerate(calls):
            tokens += shapes.pieces(index, call)
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if limit is not None and len(tokens) > limit:
            return tokens[:limit], "length"
        return tokens, shapes.end_of_call(body) if calls else "stop"

    def _completion(self, body: Body, prompt: int, tokens: Sequence[Body], finish: str) -> Body:
        if is_text(body):
            return text_answer(self.model, body, shapes.texts(tokens), finish, self._usage(body, prompt, tokens))
        message: Body = {"role": "assistant", "content": "".join(token.get("content", "") for token in tokens)}
        thought = "".join(token.get("reasoning", "") for token in tokens)
        if thought:
            message["reasoning"] = thought
        calls = shapes.whole_calls(tokens)
        if calls:
            message |= {"content": message["content"] or None, "tool_calls": calls}
        count = int(body.get("n") or 1)
        return {
            "id": f"chatcmpl-{time.monotonic_ns():x}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.model,
            "choices": [
                {"index": index, "message": message, "finish_reason": finish, "logprobs": shapes.logprobs(body, tokens)}
                for index in range(count)
            ],
            "usage": self._usage(body, prompt, tokens),
        }


def _error(message: str, type: str, code: int, *, param: str | None = None) -> Body:
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


async def _reply(send: Send, status: int, body: Body) -> None:
    raw = orjson.dumps(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": raw})


async def _event(send: Send, data: Body) -> None:
    await send({"type": "http.response.body", "body": b"data: " + orjson.dumps(data) + b"\n\n", "more_body": True})


async def _done(send: Send) -> None:
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
