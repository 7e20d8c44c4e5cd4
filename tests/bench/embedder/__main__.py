"""The embedder beside plain sentence-transformers: ``python -m tests.bench.embedder [--rounds N] [--memory TEXTS]``.

Plain is what a service without batching does: ``SentenceTransformer.encode`` with its defaults, one request after the
other. Both run MiniLM on the same cores, in turns, so that a busy machine hurts both; only the ratios mean something,
and on a busy machine those of processor time rather than those of the clock. The service's figures include HTTP, JSON
and base64. ``--memory`` sends so many texts of random lengths instead, and prints how large the process is.
"""

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.testing.serving import free_port
from sentence_transformers import SentenceTransformer

from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.embedder_service import ClientMaker, wait_until_ready
from tests.support.models import MINILM, minilm_folder

_WORDS = ["the", "contract", "of", "both", "parties", "ends", "with", "a", "notice", "in", "writing", "this", "year"]
_PASSAGES = 192
_CALLERS = 16
_CALLS = 4
"""Calls of each caller in a round."""
_MEMORY_STEP = 5000
"""Texts between two lines that ``--memory`` prints."""


def texts(count: int, shortest: int, longest: int, seed: int) -> list[str]:
    """``count`` different texts of so many words, lengths spread evenly."""
    source = random.Random(seed)
    return [
        " ".join(source.choices(_WORDS, k=source.randint(shortest, longest))) + f" {seed}-{index}"
        for index in range(count)
    ]


class Cost(NamedTuple):
    """What a piece of work took: seconds of the clock, and of the processor in the process that did it."""

    clock: float
    processor: float


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far: fields 14 and 15 of ``/proc/PID/stat`` (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Comparison:
    """The scenarios; each gives the cost of plain and of the service."""

    def __init__(self, plain: SentenceTransformer, client: EmbedderClient, service: int) -> None:
        self.plain = plain
        self.client = client
        self._service = service

    async def _cost(self, pid: int, work: Callable[[], Awaitable[Any]]) -> Cost:
        clock, processor = time.perf_counter(), processor_seconds(pid)
        await work()
        return Cost(time.perf_counter() - clock, processor_seconds(pid) - processor)

    async def _costs(
        self, plain: Callable[[], Awaitable[Any]], service: Callable[[], Awaitable[Any]]
    ) -> tuple[Cost, Cost]:
        return await self._cost(os.getpid(), plain), await self._cost(self._service, service)

    async def upload(self, seed: int) -> tuple[Cost, Cost]:
        """192 passages of 5 to 150 words by one caller."""
        passages = texts(_PASSAGES, 5, 150, seed)
        return await self._costs(
            lambda: asyncio.to_thread(self.plain.encode, passages), lambda: self.client.embed(passages, bulk=True)
        )

    async def single(self, seed: int) -> tuple[Cost, Cost]:
        """32 queries one after the other: the latency of one, times 32."""
        queries = texts(32, 5, 12, seed)

        async def one_by_one() -> None:
            for query in queries:
                await self.client.embed([query])

        return await self._costs(lambda: self._plain_queries(queries), one_by_one)

    async def callers(self, seed: int) -> tuple[Cost, Cost]:
        """16 callers at once, each with 4 calls of 1 to 4 texts of 5 to 40 words. Plain: one call after the other."""
        source = random.Random(seed)
        calls = [
            [texts(source.randint(1, 4), 5, 40, source.randrange(10**9)) for _ in range(_CALLS)]
            for _ in range(_CALLERS)
        ]

        async def plain() -> None:
            for own in calls:
                for call in own:
                    await asyncio.to_thread(self.plain.encode, call)

        async def caller(own: list[list[str]]) -> None:
            for call in own:
                await self.client.embed(call)

        return await self._costs(plain, lambda: asyncio.gather(*(caller(own) for own in calls)))

    async def together(self, seed: int) -> tuple[Cost, Cost]:
        """64 callers with one query each at the same moment, until the last has its answer."""
        queries = texts(64, 5, 12, seed)
        return await self._costs(
            lambda: self._plain_queries(queries),
            lambda: asyncio.gather(*(self.client.embed([query]) for query in queries)),
        )

    async def behind_an_upload(self, seed: int) -> tuple[Cost, Cost]:
        """One query that comes 0.1 s after 192 passages, until its answer. Plain: after the passages."""
        passages, query = texts(_PASSAGES, 5, 150, seed), texts(1, 5, 12, seed + 1)

        async def plain() -> None:
            await asyncio.to_thread(self.plain.encode, passages)
            await self._plain_queries(query)

        whole = await self._cost(os.getpid(), plain)
        upload = asyncio.create_task(self.client.embed(passages, bulk=True))
        await asyncio.sleep(0.1)
        service = await self._cost(self._service, lambda: self.client.embed(query))
        await upload
        return Cost(whole.clock - 0.1, whole.processor), service

    async def _plain_queries(self, queries: list[str]) -> None:
        for query in queries:
            await asyncio.to_thread(self.plain.encode, [query])


async def compare(url: str, service: int, rounds: int) -> None:
    """Prints medians over ``rounds``, and how many times faster the service is, a line for each scenario."""
    maker = ClientMaker()
    plain = SentenceTransformer(str(minilm_folder()), local_files_only=True, device="cpu")
    comparison = Comparison(plain, maker(url, deadline_seconds=600), service)
    for scenario in (
        comparison.callers,
        comparison.single,
        comparison.together,
        comparison.upload,
        comparison.behind_an_upload,
    ):
        await scenario(0)
        pairs = [await scenario(round_ * 1000 + 1000) for round_ in range(rounds)]
        print(f"{scenario.__name__:17}", end="")
        for field in ("clock", "processor"):
            plain_side, service_side = (
                sorted(getattr(cost, field) for cost in side) for side in zip(*pairs, strict=True)
            )
            one, other = statistics.median(plain_side), statistics.median(service_side)
            print(f"  {field}: plain {one:7.3f} s, service {other:7.3f} s, {one / max(other, 0.01):5.2f}x", end="")
        print(flush=True)
    await maker.close()


def anonymous_mib(pid: int) -> int:
    """What the process holds in memory that is no file's: ``RssAnon`` of ``/proc/PID/status`` (proc(5)), in MiB."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) >> 10


async def watch_memory(url: str, service: int, count: int) -> None:
    """Sends ``count`` texts of 1 to 150 words in calls of 1 to 64, four at a time, and prints the service's size."""
    maker = ClientMaker()
    client = maker(url, deadline_seconds=600)
    source = random.Random(7)
    sent, sizes = 0, [anonymous_mib(service)]
    while sent < count:
        until = min(count, sent - sent % _MEMORY_STEP + _MEMORY_STEP)
        while sent < until:
            calls = [
                texts(source.randint(1, 64), 1, source.choice([8, 40, 150]), source.randrange(10**9)) for _ in range(4)
            ]
            await asyncio.gather(*(client.embed(call, bulk=True) for call in calls))
            sent += sum(map(len, calls))
        sizes.append(anonymous_mib(service))
        print(f"{sent:8} texts  RssAnon {sizes[-1]:6} MiB", flush=True)
    half = len(sizes) // 2
    print(f"largest in the first half {max(sizes[:half])} MiB, in the second {max(sizes[half:])} MiB")
    await maker.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.embedder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, metavar="TEXTS", help="watch the size of the process instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        token = Path(folder, "token")
        token.write_text(EMBEDDER_TOKEN)
        server = {"port": free_port(), "metrics_port": free_port()}
        models = {MINILM: {"kind": "text", "path": str(minilm_folder())}}
        config = Path(folder, "embedder.yaml")
        config.write_text(yaml.safe_dump({"server": server, "token_file": str(token), "models": models}))
        command = [sys.executable, "-m", "cloister_embedder", "--config", str(config)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                url = f"http://127.0.0.1:{server['port']}"
                wait_until_ready(url)
                if arguments.memory:
                    asyncio.run(watch_memory(url, process.pid, arguments.memory))
                else:
                    asyncio.run(compare(url, process.pid, arguments.rounds))
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
