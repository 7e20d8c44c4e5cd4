"""What becomes of more long conversations at once than the cache holds."""

import asyncio
import time
from collections.abc import Mapping
from statistics import median

from tests.bench.llm.asking import Asker, tokens_a_second
from tests.support.llm import LlmServer

__all__ = ["burst"]

_CONVERSATIONS = 24
_WORDS = 160  # about a thousand tokens
_TOKENS = 200
"""So that each grows by a fifth of its prompt: what has room at first has none later."""


async def burst(servers: Mapping[str, LlmServer], rounds: int) -> None:
    """Asks in turns and prints a table: tokens a second, and how often one had to be computed again.

    Args:
        servers: Pods that run, by the name of their way.
        rounds: How often each gets the burst.
    """
    askers = {name: Asker(server) for name, server in servers.items()}
    rates: dict[str, list[float]] = {name: [] for name in servers}
    again: dict[str, list[float]] = {name: [] for name in servers}
    for number in range(rounds):
        for name in list(askers) if number % 2 == 0 else list(reversed(askers)):
            asker = askers[name]
            before = await asker.metric("vllm:num_preemptions_total")
            started = time.perf_counter()
            counts = await asyncio.gather(*(asker.ask(_TOKENS, words=_WORDS) for _ in range(_CONVERSATIONS)))
            rates[name].append(tokens_a_second(sum(counts), started))
            again[name].append(await asker.metric("vllm:num_preemptions_total") - before)
    print(f"{_CONVERSATIONS} long conversations at once, {_TOKENS} tokens of answer each, median of {rounds} rounds")
    print(f"{'way':12}{'tokens a second':>20}{'taken back':>14}")
    base = median(next(iter(rates.values())))
    for name, found in rates.items():
        print(f"{name:12}{f'{median(found):.0f} (x{median(found) / base:.2f})':>20}{median(again[name]):>14.0f}")
