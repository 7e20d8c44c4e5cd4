"""Three real vLLM pods and conversations of ten turns: our choice of pods against round robin, in one run.

Each conversation begins with a long text of its own, as one about a document does, and each turn has all that was said
before. There are more of them than the cache of one pod holds, and about as many as those of all pods hold: that is
what choosing is for. (Where each pod has room for all conversations, or all begin with the same text, any pod soon has
nearly everything: by a reckoning with our choice, caches of blocks of 128 tokens and their oldest thrown out, ours has
2.5 times the hits of round robin here, 1.3 times where all fit everywhere, and 1.1 where all begin alike.)

Blocks of both policies take turns, each with conversations of its own, so that neither finds what the other has cached
and noise of the machine falls on both. Prefix-cache hits are what the pods count themselves. Round robin is the same
client with its choice replaced, so that nothing else differs.
"""

import asyncio
import contextlib
import itertools
import re
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import orjson
from cloister_common.internal import InternalTokens
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore
from cloister_gateway.model_settings import LlmSettings
from cloister_gateway.models import Catalog, ChatModel, ModelUpstream, open_upstream
from cloister_gateway.models.pods import Pods
from cloister_gateway.models.upstream import payloads

from tests.support.gateway import secret_file
from tests.support.llm import LlmServer

__all__ = ["run_over_pods"]

_TURNS = 10
_ANSWER_TOKENS = 12
_RULES = 55
"""Of the text that a conversation begins with: about 1,000 tokens."""
_CACHE_GIB = 0.125
"""Of each pod: 5,800 tokens of SmolLM2 135M (30 layers, 3 heads of 64 for keys and values, two bytes), four
conversations at their end."""
_COUNTER = re.compile(r"^vllm:prefix_cache_(hits|queries)(?:_total)?\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)


async def run_over_pods(*, pods: int, conversations: int, blocks: int) -> None:
    """Runs the benchmark and prints its table.

    Args:
        pods: Processes of vLLM, about 2 GB each.
        conversations: At once, in each block.
        blocks: Of each policy, in turns.
    """
    with tempfile.TemporaryDirectory() as name, _pods(Path(name), pods) as servers:
        async with _upstream(Path(name), servers) as llm:
            found: dict[str, list[tuple[float, list[float]]]] = {"ours": [], "round robin": []}
            numbers = itertools.count()
            for _ in range(blocks):
                for policy, blocks_done in found.items():
                    with _policy(llm, policy):
                        share, times = await _block(llm, servers, [next(numbers) for _ in range(conversations)])
                    blocks_done.append((share, times))
                    # At once, so that a run that is cut off has said something.
                    print(f"  {policy}: hits {share:.1%}, {statistics.median(times) * 1000:.0f} ms", flush=True)
    print(f"{pods} pods, {conversations} conversations of {_TURNS} turns at once, {blocks} blocks of each policy")
    shares = {policy: statistics.mean(share for share, _ in done) for policy, done in found.items()}
    firsts = {policy: statistics.median([one for _, times in done for one in times]) for policy, done in found.items()}
    for policy in found:
        print(
            f"  {policy:12} prefix-cache hits {shares[policy]:5.1%} of the prompt tokens, "
            f"time to first token at turn {_TURNS} {firsts[policy] * 1000:7.0f} ms (median)"
        )
    print(
        f"  ours / round robin: hits x{shares['ours'] / shares['round robin']:.2f}, "
        f"first token x{firsts['ours'] / firsts['round robin']:.2f}"
    )


@contextlib.contextmanager
def _pods(folder: Path, count: int) -> Iterator[list[LlmServer]]:
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(count):
            (folder / str(number)).mkdir()
            server = LlmServer(folder / str(number), kv_cache_gib=_CACHE_GIB)
            (server.folder / "token").write_text("one-token-for-all-pods-of-the-bench-0123")
            stack.callback(server.kill)
            server.start()  # One after the other: each takes all cores while it starts.
            servers.append(server)
        yield servers


@contextlib.asynccontextmanager
async def _upstream(folder: Path, servers: list[LlmServer]) -> AsyncIterator[ModelUpstream]:
    token = (servers[0].folder / "token").read_bytes()
    keyring = Keyring("gateway", FileRootKey(secret_file(folder, "root")), MemoryKeyStore())
    catalog = Catalog([ChatModel("chat", 2048, 512, urls=tuple(server.url for server in servers))])
    settings = LlmSettings(token_file=servers[0].folder / "token")
    async with open_upstream(catalog, settings, InternalTokens([token]), keyring) as llm:
        yield llm


@contextlib.contextmanager
def _policy(llm: ModelUpstream, policy: str) -> Iterator[None]:
    """Has ``llm`` choose as ``policy`` does while the block runs."""
    if policy == "ours":
        yield
        return
    turns = itertools.cycle(llm.fleet["chat"].all)
    choose = Pods.choose
    try:
        Pods.choose = lambda *_, **__: next(turns)  # type: ignore[method-assign]
        yield
    finally:
        Pods.choose = choose  # type: ignore[method-assign]


async def _block(llm: ModelUpstream, servers: list[LlmServer], numbers: list[int]) -> tuple[float, list[float]]:
    """The share of prompt tokens that were in a pod's cache, and the times to first token at the last turn."""
    before = await asyncio.to_thread(_counted, servers)
    times = await asyncio.gather(*(_conversation(llm, number) for number in numbers))
    after = await asyncio.to_thread(_counted, servers)
    hits, queries = (after[name] - before[name] for name in ("hits", "queries"))
    return hits / queries, list(times)


async def _conversation(llm: ModelUpstream, number: int) -> float:
    beginning = f"These are the rules of house {number}. " + " ".join(
        f"Rule {rule} says that what is asked about matter {rule} is answered shortly and kindly."
        for rule in range(_RULES)
    )
    messages = [{"role": "system", "content": beginning}]
    first = 0.0
    for turn in range(_TURNS):
        messages.append({"role": "user", "content": f"I am visitor {number}. What of matter {turn + number % 7}?"})
        started, first, text = time.perf_counter(), 0.0, ""
        body = {"messages": messages, "max_tokens": _ANSWER_TOKENS, "temperature": 0}
        async for block in llm.stream_events("chat", body, tenant="bench", affinity=f"conversation {number}"):
            first = first or time.perf_counter() - started
            for payload in payloads(block):
                for choice in orjson.loads(payload)["choices"]:
                    text += choice["delta"].get("content") or ""
        messages.append({"role": "assistant", "content": text})
    return first


def _counted(servers: list[LlmServer]) -> dict[str, float]:
    found = {"hits": 0.0, "queries": 0.0}
    for server in servers:
        text = httpx.get(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=30).text
        for name, value in _COUNTER.findall(text):
            found[name] += float(value)
    return found
