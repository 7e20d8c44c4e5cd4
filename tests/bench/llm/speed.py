"""Tokens a second of several ways to start vLLM, for one stream and for many."""

import asyncio
import statistics
import time
from collections.abc import Mapping

from tests.bench.llm.asking import Asker, tokens_a_second
from tests.support.llm import LlmServer

__all__ = ["speed"]

_STREAMS = (1, 16, 32)


async def speed(servers: Mapping[str, LlmServer], rounds: int, tokens: int) -> None:
    """Asks in turns and prints a table: medians, and their ratio to those of the first way.

    Args:
        servers: Pods that run, by the name of their way.
        rounds: How often each is asked, for each number of streams.
        tokens: Of each answer.
    """
    askers = {name: Asker(server) for name, server in servers.items()}
    for asker in askers.values():
        await asyncio.gather(*(asker.ask(4) for _ in range(max(_STREAMS))))  # kernels that are made when first needed
    rates: dict[str, dict[int, list[float]]] = {name: {streams: [] for streams in _STREAMS} for name in servers}
    for number in range(rounds):
        turn = list(askers) if number % 2 == 0 else list(reversed(askers))
        for streams in _STREAMS:
            for name in turn:
                started = time.perf_counter()
                counts = await asyncio.gather(*(askers[name].ask(tokens) for _ in range(streams)))
                rates[name][streams].append(tokens_a_second(sum(counts), started))
    print(f"tokens a second, median of {rounds} rounds of {tokens} tokens a stream")
    print(f"{'way':12}" + "".join(f"{f'{streams} streams':>20}" for streams in _STREAMS))
    first = next(iter(rates.values()))
    for name, found in rates.items():
        cells = [(statistics.median(found[n]), statistics.median(first[n])) for n in _STREAMS]
        print(f"{name:12}" + "".join(f"{f'{own:.0f} (x{own / base:.2f})':>20}" for own, base in cells))
