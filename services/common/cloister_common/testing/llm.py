"""A llm pod without a model: vLLM's chat API on a socket, with tokens, pauses and failures as the test sets them.

It speaks what `cloister_llm` pods speak and the gateway uses: ``/v1/chat/completions`` (streamed or not, several
choices, usage, logprobs, ``continue_final_message``, tool calls, reasoning), ``/v1/completions``, ``/tokenize``,
``/v1/models``, ``/cloister/load``, ``/cloister/adapters/…``, ``/sleep``, ``/wake_up`` and ``/is_sleeping``; all else is
a 404. All but ``/health``, ``/livez`` and ``/readyz`` need the internal token.
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
from cloister_common.errors import Unavailable
from cloister_common.flight import Board
from cloister_common.internal import InternalTokens
from cloister_common.testing import llm_shapes as shapes
from cloister_common.testing.llm_replies import answer_lifespan, error_body, read_all, reply, send_done, send_event
from cloister_common.testing.llm_shapes import Body, Call
from cloister_common.testing.llm_texts import is_text, text_answer, text_chunks, text_frame

__all__ = ["Call", "FakeLlm", "RecordedRequest"]

_HOLD_POLL_SECONDS = 0.005
_HEALTH = ("/health", "/livez", "/readyz")
_STARTING = Unavailable("This pod is starting. Ask another one.").body()


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
        capacity: The tokens that it says its cache holds, and the requests that it says it computes at once.
        ending: Whether it says that it is about to end.
        counts_on: Whether it says with every chunk what was used so far, as a pod does that is asked to.
        phase: If set, it has not begun yet: all is refused, and ``/readyz`` says to a gateway how far it is.
        sleeping: Its level of sleep; 0 is awake.
        wakes: Whether waking it does anything.
        adapters: What it has loaded, as it was told to call them.
        refuse_adapters: If set, loading is refused with this sentence.
        hold_loads: Whether loading waits until this is False.
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
    capacity: tuple[int, int] = (10**9, 10**6)
    ending: bool = False
    counts_on: bool = False
    phase: str | None = None
    sleeping: int = 0
    wakes: bool = True
    adapters: list[str] = field(default_factory=list)
    refuse_adapters: str | None = None
    hold_loads: bool = False
    requests: list[RecordedRequest] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    sent: int = 0
    aborted: int = 0

    def __post_init__(self) -> None:
        self._board = Board()

    def release(self) -> None:
        """Lets held generations go on."""
        self.hold_after = None

    def chats(self) -> list[Body]:
        """The bodies of all chat calls so far."""
        return [request.body for request in self.requests if request.path == "/v1/chat/completions"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await answer_lifespan(receive, send)
            return
        assert scope["type"] == "http"
        path, method = scope["path"], scope["method"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if method == "GET" and path in _HEALTH:
            await self._tell_health(path, headers, send)
            return
        if self.phase is not None:
            await reply(send, 503, _STARTING)
            return
        if not self._knows(headers):
            await reply(send, 401, error_body("This is an internal service.", "authentication_error", 401))
            return
        if (method, path) == ("GET", "/v1/models"):
            listed = {"id": self.model, "object": "model", "max_model_len": self.context_tokens}
            await reply(send, 200, {"object": "list", "data": [listed]})
            return
        if (method, path) == ("GET", "/cloister/load"):
            tokens, requests = self.capacity
            others = self._board.note(headers).body()
            load = {"running": self.running, "waiting": self.waiting, "tokens": tokens, "requests": requests}
            await reply(send, 200, {**load, "others": others, "ending": self.ending, "adapters": self.adapters})
            return
        if (method, path) in {("POST", "/sleep"), ("POST", "/wake_up"), ("GET", "/is_sleeping")}:
            await self._sleep(path, scope["query_string"].decode(), send)
            return
        if method == "POST" and path.startswith("/cloister/adapters/"):
            await self._change_adapters(path, orjson.loads(await read_all(receive)), headers, send)
            return
        if method != "POST" or path not in {"/v1/chat/completions", "/v1/completions", "/tokenize"}:
            await reply(send, 404, error_body(f"Invalid URL ({method} {path})", "NotFoundError", 404))
            return
        body = orjson.loads(await read_all(receive))
        self.requests.append(RecordedRequest(path, headers, body))
        if not await self._refuse(path, body, send):
            if path == "/tokenize":
                count = shapes.prompt_tokens(body)
                told = {"count": count, "max_model_len": self.context_tokens, "tokens": list(range(count))}
                await reply(send, 200, told)
            else:
                await self._chat(body, receive, send)

    def _knows(self, headers: dict[str, str]) -> bool:
        known = None if self.token is None else InternalTokens([self.token.encode()])
        return known is None or known.accepts(headers.get("authorization"))

    async def _tell_health(self, path: str, headers: dict[str, str], send: Send) -> None:
        if self.phase is not None:
            phase = {"phase": self.phase} if path == "/readyz" and self._knows(headers) else {}
            await reply(send, 503, {**_STARTING, **phase})
        else:
            await reply(send, 503 if self.ending and path == "/readyz" else 200, {})

    async def _refuse(self, path: str, body: Body, send: Send) -> bool:
        """Refuses a call, where it is to be refused; says whether it was."""
        if self.sleeping and path != "/tokenize":
            await reply(send, 503, error_body("This pod sleeps.", "server_error", 503))
        elif self.refuse_status is not None:
            await reply(
                send, self.refuse_status, error_body("refused as the test asked", "TestError", self.refuse_status)
            )
        elif "@" in body["model"] and body["model"] not in self.adapters:
            message = f"The adapter '{body['model']}' is not loaded here."
            error = error_body(message, "invalid_request_error", 404, param="model")["error"]
            await reply(send, 404, {"error": {**error, "code": "adapter_not_loaded"}})
        else:
            return False
        return True

    async def _sleep(self, path: str, query: str, send: Send) -> None:
        if path == "/sleep" and self.running:
            await reply(send, 409, error_body("This pod computes.", "invalid_request_error", 409))
            return
        if path == "/sleep":
            self.sleeping = int(query.removeprefix("level=") or 1)
        elif path == "/wake_up" and self.wakes:
            self.sleeping = 0
        await reply(send, 200, {"is_sleeping": self.sleeping > 0})

    async def _change_adapters(self, path: str, body: Body, headers: dict[str, str], send: Send) -> None:
        self.requests.append(RecordedRequest(path, headers, body))
        while self.hold_loads:  # noqa: ASYNC110 - the test sets it from another thread
            await asyncio.sleep(_HOLD_POLL_SECONDS)
        if path.endswith("/unload"):
            self.adapters = [name for name in self.adapters if name != body["name"]]
        elif self.refuse_adapters is not None:
            error = {"message": self.refuse_adapters, "type": "invalid_request_error", "param": "folder"}
            await reply(send, 400, {"error": {**error, "code": "adapter_unfit"}})
            return
        elif body["name"] not in self.adapters:
            self.adapters = [*self.adapters, body["name"]]
        await reply(send, 200, {"adapters": self.adapters})

    async def _chat(self, body: Body, receive: Receive, send: Send) -> None:
        prompt = shapes.prompt_tokens(body)
        if prompt >= self.context_tokens:
            message = (
                f"This model's maximum context length is {self.context_tokens} tokens. However, your prompt contains "
                f"{prompt} input tokens, which exceeds this limit even without any output tokens."
            )
            await reply(send, 400, error_body(message, "BadRequestError", 400, param="input_tokens"))
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
                await reply(send, 200, self._completion(body, prompt, tokens, finish))
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
            text_frame(str(body["model"]))
            if is_text(body)
            else {
                "id": f"chatcmpl-{time.monotonic_ns():x}",
                "object": "chat.completion.chunk",
                "created": int(time.time()),
                "model": body["model"],
            }
        )
        sent = self.sent = 0
        for chunk in self._chunks(body, tokens, finish):
            if chunk is not None:
                so_far = {"usage": self._usage(body, prompt, tokens[:sent])} if self.counts_on else {}
                await send_event(send, {**frame, "choices": [chunk], **so_far})
                self.sent = sent
                continue
            if sent:
                await self._pace(sent, gone)
            if self.error_after is not None and sent >= self.error_after:
                await send_event(send, error_body("the engine died", "InternalServerError", 500))
                await send_done(send)
                return
            sent += 1
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = self._usage(body, prompt, tokens)
            await send_event(send, {**frame, "choices": [], "usage": usage})
        await send_done(send)

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
            return text_answer(
                str(body["model"]), body, shapes.texts(tokens), finish, self._usage(body, prompt, tokens)
            )
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
            "model": body["model"],
            "choices": [
                {"index": index, "message": message, "finish_reason": finish, "logprobs": shapes.logprobs(body, tokens)}
                for index in range(count)
            ],
            "usage": self._usage(body, prompt, tokens),
        }
