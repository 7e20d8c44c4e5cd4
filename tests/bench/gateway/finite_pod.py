"""A pod that computes as vLLM does, without a model: in steps, for so many requests at once, by priority.

Each step gives one token to every request that runs, and takes the longer the more of them there are and the more of
new prompts is read in it. Requests beyond the bound wait by priority and time of arrival (vLLM 0.32,
``v1/core/sched/request_queue.py``); those that run are not put off for them. The times are
about those of the bundled model on two cores: 26 ms a step for one request, 60 for 32. A step ends at its time,
whatever handing out its tokens took meanwhile.

``python -m tests.bench.gateway.finite_pod --port PORT --token TOKEN`` serves one in a process of its own.
"""

import argparse
import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import orjson
import uvicorn
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.llm_shapes import Body, prompt_tokens
from starlette.types import Receive, Scope, Send

__all__ = ["CONTEXT_TOKENS", "FIRSTS_PATH", "MODEL", "REQUESTS", "FinitePod"]

MODEL = "fake"
REQUESTS = 32
CONTEXT_TOKENS = 2048
_CACHE_TOKENS = 46_000

_STEP_SECONDS = 0.025
_REQUEST_SECONDS = 0.0011
_PROMPT_TOKEN_SECONDS = 0.0002
_READ_IN_A_STEP = 512
FIRSTS_PATH = "/bench/firsts"


class _Sequence:
    """One request in the engine."""

    def __init__(self, name: str, priority: int, number: int, prompt: int) -> None:
        self.name = name
        self.rank = priority, number
        self.unread = prompt
        self.tokens = 0
        self.arrived = time.monotonic()
        self.stepped = asyncio.Event()

    def __lt__(self, other: "_Sequence") -> bool:
        return self.rank < other.rank


_CURRENT: ContextVar[_Sequence] = ContextVar("sequence")


class FinitePod(FakeLlm):
    """The pod.

    Args:
        token: The internal token.
        requests: What it computes at once.
        tokens: What its cache holds.

    Attributes:
        made: Tokens so far.
        firsts: Seconds from when a request came to its first token, by what was said last in it.
    """

    def __init__(self, token: str, *, requests: int, tokens: int) -> None:
        super().__init__(token=token, capacity=(tokens, requests))
        self.made = 0
        self.firsts: dict[str, float] = {}
        self._numbers = itertools.count()
        self._queue: list[_Sequence] = []
        self._at_work: set[_Sequence] = set()
        self._engine: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == FIRSTS_PATH:
            body = orjson.dumps(self.firsts)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})
            return
        await super().__call__(scope, receive, send)

    async def _chat(self, body: Body, receive: Receive, send: Send) -> None:
        name = str(body["messages"][-1]["content"])
        sequence = _Sequence(name, int(body.get("priority") or 0), next(self._numbers), prompt_tokens(body))
        async with self._sequence(sequence):
            await super()._chat(body, receive, send)
        self.requests.clear()  # Nobody asks for them.

    async def _pace(self, sent: int, gone: "asyncio.Future[None]") -> None:
        sequence = _CURRENT.get()
        while sequence.tokens <= sent and not gone.done():
            stepped = asyncio.ensure_future(sequence.stepped.wait())
            waits: set[asyncio.Future[Any]] = {gone, stepped}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            stepped.cancel()
            sequence.stepped.clear()
        if not sent:
            self.firsts[sequence.name] = time.monotonic() - sequence.arrived
        await super()._pace(sent, gone)

    @contextlib.asynccontextmanager
    async def _sequence(self, sequence: _Sequence) -> AsyncIterator[None]:
        heapq.heappush(self._queue, sequence)
        self.waiting = len(self._queue)
        if self._engine is None or self._engine.done():
            self._engine = asyncio.create_task(self._compute())
        _CURRENT.set(sequence)
        try:
            yield
        finally:
            self._at_work.discard(sequence)
            if sequence in self._queue:
                self._queue.remove(sequence)
                heapq.heapify(self._queue)
            self.waiting = len(self._queue)

    async def _compute(self) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time()
        while self._queue or self._at_work:
            while self._queue and len(self._at_work) < self.capacity[1]:
                self._at_work.add(heapq.heappop(self._queue))
            self.waiting = len(self._queue)
            room = _READ_IN_A_STEP
            for sequence in sorted(self._at_work):
                read = min(sequence.unread, room)
                sequence.unread -= read
                room -= read
            seconds = _STEP_SECONDS + _REQUEST_SECONDS * len(self._at_work)
            at = max(at + seconds + _PROMPT_TOKEN_SECONDS * (_READ_IN_A_STEP - room), loop.time())
            await asyncio.sleep(at - loop.time())
            for sequence in self._at_work:
                if not sequence.unread:
                    sequence.tokens += 1
                    self.made += 1
                    sequence.stepped.set()


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token", required=True)
    options = parser.parse_args()
    pod = FinitePod(options.token, requests=REQUESTS, tokens=_CACHE_TOKENS)
    pod.context_tokens = CONTEXT_TOKENS
    pod.answer = [" word"] * CONTEXT_TOKENS
    uvicorn.run(pod, host="127.0.0.1", port=options.port, log_config=None, access_log=False, loop="uvloop")


if __name__ == "__main__":
    _main()
