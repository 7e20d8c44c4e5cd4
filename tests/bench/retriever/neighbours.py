"""How quick a vector store's searches are beside the rows of others: by its index, at a size, with so many neighbours.

    python -m tests.bench.retriever.neighbours --index sealed --own 50000 --foreign 0 500000
    python -m tests.bench.retriever.neighbours --index lite --own 5000 --foreign 0 50000
    python -m tests.bench.retriever.neighbours --index 235 --own 50000 --foreign 0 500000
    python -m tests.bench.retriever.neighbours --index sealed --own 10000 --passages-a-file 2     many small files

A search asks by meaning and by words, as `cloister_retriever.search` does, and opens the vector of every passage that
is proposed. Where the index does not find by words itself it is told fifty passages that were found so. Embedding a
query, and looking up whose files they are, is left out. Vectors are random directions and terms
random numbers with the frequencies of words: they cost what real ones cost, and say nothing of quality. "CPU" is the
processor time of a search in this process, where a sealed store is searched, without that of Milvus.

A sealed store is opened cold, keys and all, before and after its small packs were bundled; the words of its files,
which a search reads too, are not among it.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np
from cloister_common.vault import DataKey, Keyring
from cloister_retriever.editions import Edition, Place
from cloister_retriever.index.collection import PassageCollection
from cloister_retriever.index.connection import MilvusConnection
from cloister_retriever.index.passages import Passage, PassageOwner, open_vector, seal_passage
from cloister_retriever.index.protocol import Entry, Index, Question
from cloister_retriever.index.rotation import Rotations, normalised
from cloister_retriever.keys import FILE, VECTOR_STORE, PassageKeyring, PassageKeys
from cloister_retriever.sealed.indexes import Indexes
from cloister_retriever.sealed.memory import OpenStores
from cloister_retriever.sealed.packs import Packs
from cloister_retriever.settings import BlobSettings, MilvusSettings, Protection
from cloister_retriever.storage.backend import open_objects
from cloister_retriever.storage.editions import EditionLog
from cloister_retriever.storage.keys import ObjectKeyStore
from cloister_retriever.storage.objects import each
from cloister_retriever.storage.records import SealedRecords
from cloister_retriever.terms.weights import TermWeights

from tests.support.milvus import MilvusLite, MilvusServer235
from tests.support.retriever_memory import MemoryRoot

TENANT = "proj_bench"
_DIMENSIONS = 384
_TERMS = 300
"""Of one passage: words, and pieces of long words."""

_VOCABULARY = 50_000
_TEXT = "x" * 900
_SWEEPS = 8
_A_STEP = 128


class Bench:
    """Fills stores and searches one of them.

    Args:
        keyring: Of everything.
        rotations: Of everything.
        index: ``sealed``, ``lite`` or ``235``.
        indexes: What the stores are in.
        open_stores: What of them is open.
        passages_a_file: Of each file that is put in.
    """

    def __init__(
        self,
        keyring: Keyring,
        rotations: Rotations,
        index: str,
        indexes: Indexes,
        open_stores: OpenStores,
        *,
        passages_a_file: int,
    ) -> None:
        self._keyring = keyring
        self._keys = PassageKeyring(keyring)
        self._rotations = rotations
        self._protection = "sealed" if index == "sealed" else "standard"
        self._indexes = indexes
        self._open_stores = open_stores
        self._passages_a_file = passages_a_file
        self._random = np.random.default_rng(7)
        self._ids: dict[str, list[str]] = {}
        """Of each store's passages."""

    async def fill(self, store_id: str, passages: int) -> float:
        """Puts files into a store; how many seconds it took."""
        started = time.perf_counter()
        key = await self._keyring.obtain(TENANT, VECTOR_STORE, store_id)

        async def one(number: int) -> None:
            file_id = f"file-{store_id}-{number}"
            await self._keyring.obtain(TENANT, FILE, file_id)
            keys = await self._keys.get(TENANT, key, file_id)
            assert keys is not None
            owner = PassageOwner(TENANT, store_id, file_id, f"vsf_{store_id}_{number}")
            index = self._index(store_id, key)
            count = min(self._passages_a_file, passages - number)
            for first in range(0, count, _A_STEP):
                entries = self._entries(keys, owner, first, min(_A_STEP, count - first))
                self._ids.setdefault(store_id, []).extend(entry.passage.id for entry in entries)
                await index.upsert(entries)
            await index.count(store_id, ["psg_none"])

        numbers = range(0, passages, self._passages_a_file)
        if self._protection == "sealed":
            await each(one, numbers)
        else:
            for number in numbers:
                await one(number)
        return time.perf_counter() - started

    async def cold(self, store_id: str) -> float:
        """Seconds of opening a sealed store that was not open."""
        self._open_stores.forget(TENANT, Place(store_id))
        self._keyring.forget_all()
        key = await self._keyring.obtain(TENANT, VECTOR_STORE, store_id)
        started = time.perf_counter()
        await self._open_stores.blocks(TENANT, Place(store_id), key, fresh=True)
        return time.perf_counter() - started

    async def bundle(self) -> None:
        """Does what a retriever does once a minute, as often as there is something to do."""
        for _ in range(_SWEEPS):
            await self._open_stores.sweep()

    async def search(self, store_id: str, searches: int) -> list[float]:
        """The seconds of each search."""
        key = await self._keyring.obtain(TENANT, VECTOR_STORE, store_id)
        index = self._index(store_id, key)
        seconds = []
        for _ in range(searches):
            exact = normalised(self._random.standard_normal((1, _DIMENSIONS)).astype(np.float32))
            terms = dict.fromkeys(self._terms(40), 3.0)
            started = time.perf_counter()
            rotated = self._rotations.rotate(key.subkey("rotation"), exact)
            by_words = [str(one) for one in self._random.choice(self._ids[store_id], 50)]
            question = Question(rotated[0], terms) if index.by_words else Question(rotated[0], None, by_words)
            found = await index.search(store_id, question, limit=50, attachment_ids=None, fresh=False)
            assert len(found.hits) >= 50
            files = {hit.passage.file_id for hit in found.hits}
            opening = {file_id: await self._keys.get(TENANT, key, file_id) for file_id in files}
            for hit in found.hits:
                keys = opening[hit.passage.file_id]
                assert keys is not None
                owner = PassageOwner(TENANT, store_id, hit.passage.file_id, hit.passage.attachment_id)
                vector = open_vector(keys, owner, hit.passage) if hit.exact is None else hit.exact
                assert -1.01 < float(vector @ exact[0]) < 1.01
            seconds.append(time.perf_counter() - started)
        return seconds

    def _index(self, store_id: str, key: DataKey) -> Index:
        protection: Protection = "sealed" if self._protection == "sealed" else "standard"
        return self._indexes.of(TENANT, store_id, key, protection, Edition(model="bench"))

    def _terms(self, count: int) -> list[int]:
        """Different terms, frequent ones more often: uniform in the logarithm of their rank."""
        ranks: set[int] = set()
        while len(ranks) < count:
            ranks.update((_VOCABULARY ** self._random.random(count)).astype(int).tolist())
        return list(ranks)[:count]

    def _entries(self, keys: PassageKeys, owner: PassageOwner, first: int, count: int) -> list[Entry]:
        exact = normalised(self._random.standard_normal((count, _DIMENSIONS)).astype(np.float32))
        rotated = self._rotations.rotate(keys.rotation, exact)
        entries = []
        for row in range(count):
            passage = Passage(position=first + row, text=_TEXT, start=0, end=len(_TEXT))
            terms: TermWeights = dict.fromkeys(self._terms(_TERMS), 1.1)
            entries.append(Entry(seal_passage(keys, owner, passage, exact[row]), rotated[row].tolist(), terms))
        return entries


@asynccontextmanager
async def bench(name: str, folder: Path, *, passages_a_file: int = 1000) -> AsyncIterator[Bench]:
    """A bench over an index."""
    async with AsyncExitStack() as stack:
        uri = "http://127.0.0.1:1"
        if name != "sealed":
            server = (MilvusLite if name == "lite" else MilvusServer235)(folder)
            server.start()
            stack.callback(server.stop)
            uri = server.uri
        connection = MilvusConnection(MilvusSettings(uri=uri, timeout_seconds=60))
        stack.push_async_callback(connection.close)
        objects = open_objects(BlobSettings(url=(folder / "blobs").as_uri()))
        keyring = Keyring("retriever", MemoryRoot(os.urandom(32)), ObjectKeyStore(objects))
        rotations = Rotations()
        packs = Packs(objects, keyring)
        open_stores = OpenStores(packs, keyring, most_bytes=2**30)
        editions = EditionLog(objects, keyring, SealedRecords(objects), "bench")
        collections = cache(partial(PassageCollection, connection))
        indexes = Indexes(collections, packs, open_stores, PassageKeyring(keyring), rotations, editions)
        yield Bench(keyring, rotations, name, indexes, open_stores, passages_a_file=passages_a_file)


async def measure(index: str, own: int, foreign: list[int], searches: int, passages_a_file: int) -> None:
    """Prints a line for each number of foreign passages."""
    with tempfile.TemporaryDirectory() as name:
        async with bench(index, Path(name), passages_a_file=passages_a_file) as benched:
            seconds = await benched.fill("vs_own", own)
            print(f"{index}: {own} passages written in {seconds:.1f} s", flush=True)
            for how in ("pack by pack", "out of bundles") if index == "sealed" else ():
                if how == "out of bundles":
                    await benched.bundle()
                cold = [await benched.cold("vs_own") for _ in range(5)]
                print(f"{index}: opened {how} in {statistics.median(cold) * 1000:.0f} ms", flush=True)
            there, base = 0, 0.0
            for number in sorted(foreign):
                await benched.fill(f"vs_foreign_{number}", number - there)
                there = number
                await benched.search("vs_own", 5)
                before = time.process_time()
                taken = sorted(await benched.search("vs_own", searches))
                processor = (time.process_time() - before) / searches
                p95 = taken[int(len(taken) * 0.95)]
                base = base or p95
                print(
                    f"{index}: {own:7} own, {there:7} foreign: p50 {statistics.median(taken) * 1000:6.1f} ms, "
                    f"p95 {p95 * 1000:6.1f} ms, {p95 / base:.2f} times, CPU {processor * 1000:6.1f} ms",
                    flush=True,
                )


def main() -> None:
    """Runs what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.retriever.neighbours")
    parser.add_argument("--index", choices=["sealed", "lite", "235"], default="sealed")
    parser.add_argument("--own", type=int, default=50_000)
    parser.add_argument("--foreign", type=int, nargs="+", default=[0])
    parser.add_argument("--searches", type=int, default=60)
    parser.add_argument("--passages-a-file", type=int, default=1000)
    arguments = parser.parse_args()
    asyncio.run(
        measure(arguments.index, arguments.own, arguments.foreign, arguments.searches, arguments.passages_a_file)
    )


if __name__ == "__main__":
    main()
