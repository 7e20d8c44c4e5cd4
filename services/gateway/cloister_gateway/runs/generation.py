"""One answer out of the llm pods, however many of them it takes.

A generation that broke off goes on on another pod, or on another gateway, from the text that readers have seen. Calls
of functions, which they have not seen by then, are made anew (`cloister_gateway.runs.calls`).
"""

import asyncio
from contextlib import aclosing
from typing import Any

import orjson
from cloister_common.errors import CloisterError, Unavailable, UpstreamFailed
from cloister_common.logs import get_logger

from cloister_gateway.models.connections import Pace
from cloister_gateway.models.faults import RequestFailed, failed_again
from cloister_gateway.models.pods import Attempts
from cloister_gateway.models.reasoning import thinking
from cloister_gateway.models.served import Served
from cloister_gateway.models.upstream import ModelUpstream, payloads
from cloister_gateway.models.waking.records import Told
from cloister_gateway.runs.answer import Answer
from cloister_gateway.runs.calls import Calls
from cloister_gateway.runs.records import TokenCount, TurnRequest
from cloister_gateway.storage import KeyedObject
from cloister_gateway.wire.items import Logprob, Message
from cloister_gateway.wire.parameters import pod_top_p

__all__ = ["Generation"]

log = get_logger(__name__)

_MOST_ATTEMPTS = 4
_RETRY_SECONDS = 0.5


class Generation:
    """Generates one answer.

    Args:
        upstream: Calls the llm pods.
        keyed: The response.
        request: What was asked.
        messages: The prompt.
        most_tokens: The longest answer.
        answer: Takes the text.
        calls: Takes calls of functions.
        tokens: Takes what is used.
        pace: When what it streams is written next: no sooner need it be looked at.
        waiting: Told where it stands while the model is waited for, and that it is there.
        served: Takes how it came.
    """

    def __init__(
        self,
        upstream: ModelUpstream,
        keyed: KeyedObject,
        request: TurnRequest,
        messages: list[Message],
        *,
        most_tokens: int,
        answer: Answer,
        calls: Calls,
        tokens: TokenCount,
        pace: Pace | None = None,
        waiting: Told | None = None,
        served: Served | None = None,
    ) -> None:
        self._upstream = upstream
        self._keyed = keyed
        self._request = request
        self._messages = messages
        self._most_tokens = most_tokens
        self._answer = answer
        self._calls = calls
        self._tokens = tokens
        self._pace = pace
        self._waiting = waiting
        self._served = served or Served()

    async def run(self) -> str:
        """Streams the answer; goes on on another pod, from the text so far, when one fails.

        A second failure at the same place of the answer is not the pods'.

        Returns:
            vLLM's reason for the end: ``stop``, ``length``, …

        Raises:
            UpstreamFailed, Unavailable: No pod brought it to its end.
            CloisterError: It broke off where it cannot be continued.
        """
        attempts = Attempts(served=self._served)
        failed_at: tuple[int, int] | None = None
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._stream_once(attempts)
            except RequestFailed:
                raise
            except (UpstreamFailed, Unavailable) as error:
                if attempt == _MOST_ATTEMPTS or attempts.over:
                    raise
                if isinstance(error, UpstreamFailed):
                    place = (self._answer.progress(), self._calls.pieces)
                    if failed_at == place:
                        raise failed_again(self._request.model) from error
                    failed_at = place
                log.warning("generation_continued", response_id=self._keyed.id, attempt=attempt)
                await asyncio.sleep(_RETRY_SECONDS * attempt)

    async def _stream_once(self, attempts: Attempts) -> str:
        body = self._body()
        text = self._answer.restart()
        held_back = self._calls.pieces > 0
        self._calls.restart()
        before = 0
        if text:
            before = await self._continue(body, text, attempts, counted=not held_back)
            if body["max_tokens"] <= 0:
                return "length"
        reason: str | None = None
        stream = self._upstream.stream_events(
            self._request.model,
            body,
            tenant=self._keyed.key.tenant,
            affinity=self._request.affinity,
            attempts=attempts,
            pace=self._pace,
            work=self._request.work_class,
            waiting=self._waiting,
            accepted=True,
        )
        async with aclosing(stream) as blocks:
            async for block in blocks:
                reason = self._take(block, before) or reason
        if reason is None:
            raise UpstreamFailed("The model stopped in the middle of its answer.")
        return reason

    def _body(self) -> dict[str, Any]:
        """What vLLM is asked for.

        With every chunk it says what was used so far: what a run used that is cancelled or breaks off must be right,
        and asking then would cost a round trip to a pod that may be gone. Here it costs 0.3 µs a token.
        """
        body: dict[str, Any] = {
            "model": self._request.model,
            "messages": self._messages,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "max_tokens": self._most_tokens,
        }
        request = self._request
        if request.functions:
            body |= {"tools": request.functions, "tool_choice": request.function_choice}
            if not request.parallel_calls:
                body["parallel_tool_calls"] = False
        optional = {
            "temperature": request.temperature,
            "top_p": None if request.top_p is None else pod_top_p(request.top_p),
            "presence_penalty": request.presence_penalty,
            "frequency_penalty": request.frequency_penalty,
            "logprobs": None if request.logprobs is None else True,
            "top_logprobs": request.logprobs,
            # (A call that must be made has the form of its function.)
            "response_format": request.response_format if request.function_choice in ("auto", "none") else None,
        }
        body |= {name: value for name, value in optional.items() if value is not None}
        return body | thinking(request.reasoning_effort)

    async def _continue(self, body: dict[str, Any], text: str, attempts: Attempts, *, counted: bool) -> int:
        """Has ``body`` go on from ``text``; the tokens that it has. They are ``counted`` unless calls followed it."""
        if self._request.response_format is not None:
            # vLLM's grammar begins anew with every generation: it would put a second beginning after the first.
            raise CloisterError("The answer broke off, and structured output cannot be continued. Try again.")
        thought = self._answer.thought.whole()
        said = {"role": "assistant", "content": text}
        body["messages"] = [*self._messages, {**said, "reasoning": thought} if thought else said]
        body |= {"continue_final_message": True, "add_generation_prompt": False}
        before = self._tokens.output if counted else 0
        if before == 0:
            # Another gateway or a pod that did not say began it: it counts towards limit and usage all the same.
            self._tokens.reasoning = await self._count_tokens(thought, attempts) if thought else 0
            before = self._tokens.reasoning + await self._count_tokens(text, attempts)
        body["max_tokens"] -= before
        return before

    async def _count_tokens(self, text: str, attempts: Attempts) -> int:
        model = self._request.model
        return len(await self._upstream.tokenize(model, prompt=text, attempts=attempts, waiting=self._waiting))

    def _take(self, block: bytes, before: int) -> str | None:
        """Turns what vLLM sent together into events; the reason of the end if it is among it.

        Those that came between two writes, or in one read, are joined to one event: readers get them together anyway,
        and each event costs every one of them a frame.

        A chunk is parsed whole: orjson takes 1.0 µs for one, and cutting the text out of the known shape 0.8.
        """
        text = thoughts = ""
        reason: str | None = None
        usage: dict[str, Any] | None = None
        logprobs: list[Logprob] | None = None if self._request.logprobs is None else []
        for payload in payloads(block):
            chunk = orjson.loads(payload)
            if "error" in chunk:
                self._answer.think(thoughts)
                self._answer.feed(text, logprobs)
                raise UpstreamFailed("The model reported an error in the middle of its answer.")
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                delta = choice["delta"]
                content = delta.get("content")
                if content is None or len(delta) > 1:
                    thought = delta.get("reasoning")
                    if thought and before:
                        # A parser that finds no end of a thought in a continued prompt takes the answer's rest for one.
                        content = thought + (content or "")
                    elif thought:
                        if text:
                            self._answer.feed(text, logprobs)
                            text, logprobs = "", None if logprobs is None else []
                        thoughts += thought
                        content = content or None
                    self._calls.feed(delta.get("tool_calls") or ())
                text += content or ""
                reason = choice.get("finish_reason") or reason
                if logprobs is not None and content is not None:
                    # (OpenAI tells those of the message only, not of thoughts and calls.)
                    logprobs += (choice.get("logprobs") or {}).get("content") or []
        if usage is not None:
            self._count(usage, before)
        if thoughts:
            self._answer.think(thoughts)
        if text or logprobs:
            self._answer.feed(text, logprobs)
        return reason

    def _count(self, usage: dict[str, Any], before: int) -> None:
        """Notes what the model says it used, of which ``before`` tokens were answered earlier."""
        if self._tokens.prompt is None:
            # The prompt of a continuation ends with what was answered before: that is output.
            self._tokens.prompt = max(0, usage["prompt_tokens"] - before)
        details = usage.get("prompt_tokens_details")
        if details is not None and before == 0:
            # (vLLM tells of its cache with the last event of a stream alone.)
            self._tokens.cached = details.get("cached_tokens") or 0
        self._tokens.output = before + usage["completion_tokens"]
        details = usage.get("completion_tokens_details")
        if details is not None and before == 0:
            self._tokens.reasoning = details.get("reasoning_tokens") or 0
