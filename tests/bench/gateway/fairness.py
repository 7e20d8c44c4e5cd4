"""What one tenant's flood, and a batch, do to another's first tokens; and whether a batch alone keeps the pod busy.

First that class of requests alone which is the lowest that callers can ask for, twice as many as the pod computes,
through the gateway and at the pod itself, in tokens a second. Then one tenant asks at a steady pace all the while, and
the ways take turns: alone, beside another tenant's flood of 200 requests from when it begins, and beside as many of the
lowest class. Gateway, pod and callers are processes of their own. Ratios within a run are what to read; how long a pod
without a model took by itself stands beside how long the caller waited, so that it shows whose the difference is. On a
machine that does other things too, ``chrt --rr 5`` in front of the command keeps these out of the figures.
"""

import asyncio
import contextlib
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import openai
import orjson

from tests.bench.gateway.finite_pod import CONTEXT_TOKENS, FIRSTS_PATH, MODEL, REQUESTS
from tests.bench.gateway.subjects import ROOT, MockPod, gateway_of
from tests.bench.gateway.table import print_table
from tests.support.gateway import INTERNAL_TOKEN
from tests.support.stack import running_stack

__all__ = ["run_fairness"]

_FLOOD = 200
_PACE_SECONDS = 0.1
_STORY = ". Write a long story."


@dataclass(frozen=True)
class _Place:
    """Where is asked, and as whom.

    Attributes:
        url: With ``/v1``.
        key: Of the caller.
    """

    url: str
    key: str


@dataclass(frozen=True)
class _Subject:
    """What is measured.

    Attributes:
        model: Its name.
        quiet, loud: Two tenants at the gateway.
        pod: The pod itself.
        batch: Requests of a batch at once.
        inside: Seconds to each first token in the pod, by what was said, where the pod tells of it.
    """

    model: str
    quiet: _Place
    loud: _Place
    pod: _Place
    batch: int
    inside: Callable[[], dict[str, float]]


async def run_fairness(*, rounds: int, tokens: int, seconds: float = 15.0, real: bool = False) -> None:
    """Runs the benchmark and prints its tables.

    Args:
        rounds: Of each way, in turns.
        tokens: Of each answer of the others; the tenant that is looked at asks for an eighth of it.
        seconds: How long each way lasts.
        real: With the whole stack and vLLM, instead of a pod without a model.
    """
    async with _apart(_stack if real else _finite) as subject:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http:
            ask = partial(_ask, http, subject.model, tokens)
            # First what nobody else may be asking beside: who asked is counted with for a while.
            rates: dict[str, list[float]] = {"at the pod itself": [], "through the gateway": []}
            for _ in range(rounds):
                for way, place in zip(rates, (subject.pod, subject.loud), strict=True):
                    rates[way].append(await _saturating(ask, place, subject.batch, seconds / 2))
            firsts = await _firsts(ask, subject, rounds, max(tokens // 8, 1), seconds)
        inside = await asyncio.to_thread(subject.inside)
    _print(firsts, inside, rates, rounds)


async def _firsts(
    ask: "Ask", subject: "_Subject", rounds: int, tokens: int, seconds: float
) -> dict[str, dict[str, float]]:
    """Seconds to each first token of a tenant that asks at a steady pace all the while, by way and by what it said."""
    ways: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[None]]] = {
        "alone": contextlib.nullcontext,
        f"beside a flood of {_FLOOD}": partial(_flood, ask, subject.loud),
        "beside a full batch": partial(_batch, ask, subject.loud, subject.batch),
    }
    firsts: dict[str, dict[str, float]] = {way: {} for way in ways}

    async def quiet(into: dict[str, float], name: str) -> None:
        answer = await ask(subject.quiet, name, max_tokens=tokens)
        if answer.first:
            into[name] = answer.first

    async def quietly(into: dict[str, float], seconds: float) -> None:
        for _ in range(round(seconds / _PACE_SECONDS)):
            asked.append(asyncio.create_task(quiet(into, f"Quiet {len(asked)}")))
            # (Not in step with the pod, which has a pace too.)
            await asyncio.sleep(_PACE_SECONDS * chance.uniform(0.5, 1.5))

    asked: list[asyncio.Task[None]] = []
    chance = random.Random(0)
    await quietly({}, 3.0)
    for _ in range(rounds):
        for way, beside in ways.items():
            async with beside():
                await quietly(firsts[way], seconds)
            await quietly({}, 2.0)  # What was beside ends.
    await asyncio.gather(*asked)
    return firsts


@contextlib.asynccontextmanager
async def _apart(
    start: Callable[[Path], contextlib.AbstractContextManager[_Subject]],
) -> AsyncIterator[_Subject]:
    """What ``start`` starts in a folder of its own; it may have loops of its own, and so is started beside this one."""
    with tempfile.TemporaryDirectory() as folder:
        started = start(Path(folder))
        subject = await asyncio.to_thread(started.__enter__)
        try:
            yield subject
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)


Ask = Callable[..., Coroutine[Any, Any, "_Answer"]]


@dataclass(slots=True)
class _Answer:
    first: float = 0.0
    tokens: int = 0
    refused: bool = False


async def _ask(
    http: aiohttp.ClientSession, model: str, tokens: int, place: _Place, text: str, **fields: Any
) -> _Answer:
    """One streamed chat, until its end; its tokens as they are counted there."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": text + _STORY}],
        "max_tokens": tokens,
        "stream": True,
        "temperature": 0,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
        **fields,
    }
    answer, began = _Answer(), time.perf_counter()
    headers = {"authorization": f"Bearer {place.key}"}
    async with http.post(f"{place.url}/chat/completions", json=body, headers=headers) as reply:
        if reply.status != 200:
            answer.refused = True
            return answer
        async for line in reply.content:
            if not line.startswith(b"data: {"):
                continue
            chunk = orjson.loads(line[6:])
            if not answer.first and any(choice["delta"].get("content") for choice in chunk["choices"]):
                answer.first = time.perf_counter() - began
            answer.tokens = (chunk.get("usage") or {}).get("completion_tokens", answer.tokens)
    return answer


@contextlib.asynccontextmanager
async def _flood(ask: Ask, place: _Place) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(ask(place, f"Loud {number} {time.time()}")) for number in range(_FLOOD)]
    yield
    await _end(tasks)


@contextlib.asynccontextmanager
async def _batch(ask: Ask, place: _Place, size: int) -> AsyncIterator[None]:
    async def lines(number: int) -> None:
        for line in itertools.count():
            await ask(place, f"Line {number} {line} {time.time()}", service_tier="flex")

    tasks = [asyncio.create_task(lines(number)) for number in range(size)]
    yield
    await _end(tasks)


async def _end(tasks: list["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _saturating(ask: Ask, place: _Place, size: int, seconds: float) -> float:
    """Tokens a second with ``size`` answers asked for at once, when as much time has gone for them to begin.

    Each answer counts with as much of it as was written in that time.
    """
    began = time.perf_counter()
    stop = began + 2 * seconds
    made = 0.0

    async def lines(number: int) -> None:
        nonlocal made
        for line in itertools.count():
            asked = time.perf_counter()
            if asked >= stop:
                return
            answer = await ask(place, f"Line {number} {line} {asked}", service_tier="flex")
            first, end = asked + answer.first, time.perf_counter()
            within = max(0.0, min(end, stop) - max(first, began + seconds))
            made += answer.tokens * within / max(end - first, 0.001)

    await asyncio.gather(*(lines(number) for number in range(size)))
    return made / seconds


class _FinitePod(MockPod):
    """One that computes in steps, as a process."""

    title = "the pod that computes in steps"

    def command(self) -> Sequence[str]:
        name = "tests.bench.gateway.finite_pod"
        return [sys.executable, "-m", name, "--port", str(self.port), "--token", INTERNAL_TOKEN]

    def firsts(self) -> dict[str, float]:
        """Seconds to each first token, by what the caller said."""
        said: dict[str, float] = httpx.get(f"{self.url}{FIRSTS_PATH}").raise_for_status().json()
        return {name.removesuffix(_STORY): seconds for name, seconds in said.items()}


@contextlib.contextmanager
def _finite(folder: Path) -> Iterator[_Subject]:
    """A gateway on a core of its own, with a pod without a model."""
    pod = _FinitePod(folder)
    pod.start()
    try:
        models = {MODEL: {"urls": [pod.url], "context_tokens": CONTEXT_TOKENS}}
        with gateway_of(ROOT, folder / "own", pod, name="this checkout", models=models) as gateway:
            yield _Subject(
                MODEL,
                _Place(f"{gateway.url}/v1", gateway.key),
                _Place(f"{gateway.url}/v1", _new_project(f"{gateway.url}/v1", gateway.admin_key)),
                _Place(f"{pod.url}/v1", INTERNAL_TOKEN),
                2 * REQUESTS,
                pod.firsts,
            )
    finally:
        pod.kill()


@contextlib.contextmanager
def _stack(folder: Path) -> Iterator[_Subject]:
    """The whole stack, with vLLM."""
    with running_stack(folder, {"overrides": {"llm": {"engine": {"max_num_seqs": REQUESTS}}}}) as stack:
        token = (stack.var / "secrets" / "llm-token").read_text().strip()
        pod = f"http://127.0.0.1:{stack.settings['ports']['llm']}/v1"
        yield _Subject(
            "SmolLM2-135M-Instruct",
            _Place(stack.base_url, stack.api_key),
            _Place(stack.base_url, _new_project(stack.base_url, stack.admin_key)),
            _Place(pod, token),
            2 * REQUESTS,
            dict,
        )


def _new_project(url: str, admin_key: str) -> str:
    with openai.OpenAI(base_url=url, api_key="x", admin_api_key=admin_key, max_retries=0) as admin:
        projects = admin.admin.organization.projects
        account = projects.service_accounts.create(projects.create(name="loud").id, name="bot")
    assert account.api_key is not None
    return account.api_key.value


def _print(
    firsts: Mapping[str, Mapping[str, float]],
    inside: Mapping[str, float],
    rates: Mapping[str, list[float]],
    rounds: int,
) -> None:
    rows = []
    alone: list[float] = []
    for way, by_name in firsts.items():
        seconds = list(by_name.values())
        figures = [statistics.median(seconds), _p95(seconds)]
        pods = [inside[name] for name in by_name if name in inside]
        figures += [statistics.median(pods), _p95(pods)] if pods else []
        alone = alone or figures
        rows.append(
            [
                way,
                str(len(seconds)),
                *(f"{figure * 1000:.0f} ({figure / base:.2f})" for figure, base in zip(figures, alone, strict=True)),
            ]
        )
    columns = ["one tenant's first tokens, ms (of alone)", "answers", "median", "p95"]
    columns += ["median in the pod", "p95 in the pod"] if inside else []
    print_table(f"Fairness, {rounds} rounds of each in turns", columns, rows)
    direct = statistics.median(next(iter(rates.values())))
    rows = [
        [way, f"{statistics.median(one):.0f}", f"{statistics.median(one) / direct:.0%}"] for way, one in rates.items()
    ]
    print_table("A batch alone", ["where", "tokens/s", "of the pod itself"], rows)


def _p95(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1]
