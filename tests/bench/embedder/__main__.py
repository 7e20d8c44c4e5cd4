"""The embedder beside plain sentence-transformers: ``python -m tests.bench.embedder [--rounds N]``.

Plain is what a service without batching does: ``SentenceTransformer.encode`` with its defaults, one request after the
other. Both run MiniLM on the same cores, in turns, so that a busy machine hurts both; only the ratios mean something.
The service's times include HTTP, JSON and base64.
"""

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.testing.serving import free_port
from sentence_transformers import SentenceTransformer

from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.embedder_service import ClientMaker, wait_until_ready
from tests.support.models import MINILM, minilm_folder

_WORDS = ["the", "contract", "of", "both", "parties", "ends", "with", "a", "notice", "in", "writing", "this", "year"]
_PASSAGES = 192


def texts(count: int, shortest: int, longest: int, seed: int) -> list[str]:
    """``count`` different texts of so many words, lengths spread evenly."""
    source = random.Random(seed)
    return [
        " ".join(source.choices(_WORDS, k=source.randint(shortest, longest))) + f" {seed}-{index}"
        for index in range(count)
    ]


async def seconds(work: Callable[[], Awaitable[Any]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


class Comparison:
    """The scenarios; each gives the seconds of plain and of the service."""

    def __init__(self, plain: SentenceTransformer, client: EmbedderClient) -> None:
        self.plain = plain
        self.client = client

    async def upload(self, seed: int) -> tuple[float, float]:
        """192 passages of 5 to 150 words by one caller."""
        passages = texts(_PASSAGES, 5, 150, seed)
        plain = await seconds(lambda: asyncio.to_thread(self.plain.encode, passages))
        return plain, await seconds(lambda: self.client.embed(passages, bulk=True))

    async def single(self, seed: int) -> tuple[float, float]:
        """32 queries one after the other: the latency of one, times 32."""
        queries = texts(32, 5, 12, seed)

        async def one_by_one() -> None:
            for query in queries:
                await self.client.embed([query])

        plain = await seconds(lambda: self._plain_queries(queries))
        return plain, await seconds(one_by_one)

    async def together(self, seed: int) -> tuple[float, float]:
        """64 callers with one query each at the same moment, until the last has its answer."""
        queries = texts(64, 5, 12, seed)
        plain = await seconds(lambda: self._plain_queries(queries))
        return plain, await seconds(lambda: asyncio.gather(*(self.client.embed([query]) for query in queries)))

    async def behind_an_upload(self, seed: int) -> tuple[float, float]:
        """One query that comes while 192 passages are under way. Plain: after the rest of them."""
        passages, query = texts(_PASSAGES, 5, 150, seed), texts(1, 5, 12, seed + 1)
        started = time.perf_counter()
        upload = asyncio.create_task(asyncio.to_thread(self.plain.encode, passages))
        await asyncio.sleep(0.1)
        asked = time.perf_counter() - started
        await upload
        plain = await seconds(lambda: self._plain_queries(query)) + time.perf_counter() - started - asked
        bulk = asyncio.create_task(self.client.embed(passages, bulk=True))
        await asyncio.sleep(0.1)
        service = await seconds(lambda: self.client.embed(query))
        await bulk
        return plain, service

    async def _plain_queries(self, queries: list[str]) -> None:
        for query in queries:
            await asyncio.to_thread(self.plain.encode, [query])


async def compare(url: str, rounds: int) -> None:
    """Prints medians over ``rounds``, and how many times faster the service is, a line for each scenario."""
    maker = ClientMaker()
    plain = SentenceTransformer(str(minilm_folder()), local_files_only=True, device="cpu")
    comparison = Comparison(plain, maker(url, deadline_seconds=600))
    for scenario in (comparison.single, comparison.together, comparison.upload, comparison.behind_an_upload):
        await scenario(0)
        pairs = [await scenario(round_ * 1000 + 1000) for round_ in range(rounds)]
        medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
        ratio = statistics.median(one / other for one, other in pairs)
        print(
            f"{scenario.__name__:18} plain {medians[0]:8.3f} s  service {medians[1]:8.3f} s  {ratio:5.2f} times faster",
            flush=True,
        )
    await maker.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.embedder")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
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
                asyncio.run(compare(url, rounds))
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
