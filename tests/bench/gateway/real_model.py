"""The gateway's cost beside vLLM itself, in one run.

Starts the whole stack in a temporary folder. Rounds of the ways are interleaved, so that noise of the machine falls
on all of them; medians and ratios are what to read. The gateway runs with everything on: authentication, sealing,
events written to Redis with ``appendfsync always``.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from tests.support.stack import Stack, running_stack

_MODEL = "SmolLM2-135M-Instruct"
_QUESTION = "Write a long story about a lighthouse."

__all__ = ["run_beside_vllm"]

Way = Callable[[int], AsyncIterator[str]]


async def run_beside_vllm(*, rounds: int, streams: int, tokens: int) -> None:
    """Runs the benchmark and prints two tables.

    Args:
        rounds: Questions of each way, one at a time.
        streams: At once.
        tokens: Of each answer.
    """
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        ways = _ways(stack, tokens)
        await _first_tokens(ways, rounds)
        await _throughput(ways, streams, rounds=3)


def _ways(stack: Stack, tokens: int) -> dict[str, Way]:
    direct_url = f"http://127.0.0.1:{stack.settings['ports']['llm']}/v1"
    direct_key = (stack.var / "secrets" / "llm-token").read_text().strip()
    direct = AsyncOpenAI(base_url=direct_url, api_key=direct_key, max_retries=0)
    gateway: Any = AsyncOpenAI(base_url=stack.base_url, api_key=stack.api_key, max_retries=0)

    def chat(client: Any) -> Way:
        async def pieces(number: int) -> AsyncIterator[str]:
            stream = await client.chat.completions.create(
                model=_MODEL, messages=[_message(number)], max_tokens=tokens, temperature=0, stream=True
            )
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

        return pieces

    async def responses(number: int) -> AsyncIterator[str]:
        stream = await gateway.responses.create(
            model=_MODEL, input=[_message(number)], max_output_tokens=tokens, temperature=0, stream=True
        )
        async for event in stream:
            if event.type == "response.output_text.delta":
                yield event.delta

    async def socket(number: int) -> AsyncIterator[str]:
        async with gateway.responses.connect() as connection:
            await connection.response.create(
                model=_MODEL, input=[_message(number)], max_output_tokens=tokens, temperature=0
            )
            async for event in connection:
                if event.type == "response.output_text.delta":
                    yield event.delta
                elif event.type in {"response.completed", "response.incomplete"}:
                    return

    return {
        "vLLM directly": chat(direct),
        "gateway, chat completions": chat(gateway),
        "gateway, responses over SSE": responses,
        "gateway, responses over WebSocket": socket,
    }


def _message(number: int) -> Any:
    """A question of its own each time, so that no prefix cache answers."""
    return {"role": "user", "content": f"{number}. {_QUESTION}"}


async def _first_tokens(ways: dict[str, Way], rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-2, rounds):
        for place, (name, way) in enumerate(ways.items()):
            started = time.perf_counter()
            first = None
            async for _ in way(number * len(ways) + place):
                first = first or time.perf_counter() - started
            if number >= 0 and first is not None:
                seconds[name].append(first)
    print(f"time to first token, one stream at a time, {rounds} rounds")
    base = statistics.median(next(iter(seconds.values())))
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"  {name:36} median {median * 1000:7.1f} ms   +{(median - base) * 1000:6.1f} ms   x{median / base:.2f}")


async def _throughput(ways: dict[str, Way], streams: int, *, rounds: int) -> None:
    rates: dict[str, list[float]] = {name: [] for name in ways}
    number = 10_000
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            counts = await asyncio.gather(*(_count(way, number + place) for place in range(streams)))
            rates[name].append(sum(counts) / (time.perf_counter() - started))
            number += streams
    print(f"characters per second, {streams} streams at once, {rounds} rounds")
    base = statistics.median(next(iter(rates.values())))
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"  {name:36} median {median:7.0f} /s   {median / base:.0%} of vLLM directly")


async def _count(way: Way, number: int) -> int:
    """Characters, since a busy vLLM sends several tokens in one chunk."""
    return sum([len(piece) async for piece in way(number)])
