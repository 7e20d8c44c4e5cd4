"""A sealed store of many small files, in memory, and what of it lies in bundles."""

from collections.abc import Sequence

import numpy as np
import pytest
from cloister_common.vault import DataKey
from cloister_retriever.editions import Place
from cloister_retriever.index.passages import Passage, PassageOwner, seal_passage
from cloister_retriever.index.protocol import Entry, Question
from cloister_retriever.index.rotation import Rotations, Vector, normalised
from cloister_retriever.keys import (
    BUNDLE,
    FILE,
    VECTOR_STORE,
    passage_keys,
)
from cloister_retriever.sealed.index import SealedIndex
from cloister_retriever.storage.bundling import FEW_LOOSE

from tests.support.retriever_memory import TENANT, MemoryProcess, MemoryRoot, Stored

__all__ = [
    "MANY",
    "OTHER",
    "PLACE",
    "STORE",
    "Counted",
    "files",
    "place_of",
    "stored",
    "term_of",
    "vector_of",
]

STORE = "vs_1"
OTHER = "proj_b"
PLACE = Place(STORE)
MANY = FEW_LOOSE + 6


class Counted(MemoryProcess):
    """A process that counts what it reads."""

    def __init__(self, stored: Stored, root: MemoryRoot) -> None:
        super().__init__(stored, root)
        self.read: list[str] = []
        get = self.objects.get

        async def counted(path: str) -> bytes | None:
            self.read.append(path)
            return await get(path)

        self.objects.get = counted  # type: ignore[method-assign]
        self.bundles = self.open_stores._packs.bundles

    async def store_key(self, tenant: str = TENANT) -> DataKey:
        return await self.open_stores._keyring.obtain(tenant, VECTOR_STORE, place_of(tenant).store_id)

    async def sealed(self, tenant: str = TENANT) -> SealedIndex:
        key = await self.store_key(tenant)
        return SealedIndex(
            self.open_stores._packs, self.open_stores, self.keys, Rotations(), tenant, place_of(tenant), key
        )

    async def fill(self, numbers: Sequence[int], tenant: str = TENANT, *, dimensions: int = 8) -> None:
        """Puts files of one passage each into the store."""
        index = await self.sealed(tenant)
        for number in numbers:
            file_key = await self.open_stores._keyring.obtain(tenant, FILE, f"file-{number}")
            keys = passage_keys(await self.store_key(tenant), file_key)
            owner = PassageOwner(tenant, place_of(tenant).store_id, f"file-{number}", f"vsf_{number}")
            vector = vector_of(number, dimensions)
            passage = Passage(position=0, text=f"word{number}", start=0, end=1)
            dense = Rotations().rotate(keys.rotation, vector[None])[0].tolist()
            await index.upsert([Entry(seal_passage(keys, owner, passage, vector), dense, {term_of(number): 1.0})])
        await index.count(place_of(tenant).name, [])

    async def found(self, without: Sequence[str] = ()) -> set[str]:
        """The files of everything that a search finds."""
        rotation = (await self.store_key()).subkey("rotation")
        question = Question(Rotations().rotate(rotation, vector_of(0)[None])[0], {1: 1.0})
        index = await self.sealed()
        found = await index.search(STORE, question, limit=1000, attachment_ids=None, fresh=True, without=without)
        return {hit.passage.file_id for hit in found.hits}

    async def ids(self) -> list[str]:
        return await self.bundles.list(TENANT, PLACE.name, "packs")

    async def paths(self) -> list[str]:
        return [one.path for one in await self.objects.list("t") if "/bundles/" in one.path]

    async def bundle_keys(self) -> list[str]:
        return [name async for name in self.open_stores._keyring.names(BUNDLE)]


def place_of(tenant: str) -> Place:
    return PLACE if tenant == TENANT else Place("vs_2")


def term_of(number: int) -> int:
    return 0x41424344 + number


def vector_of(number: int, dimensions: int = 8) -> Vector:
    vector: Vector = normalised(np.random.default_rng(number).standard_normal((1, dimensions)).astype(np.float32))[0]
    return vector


@pytest.fixture
def stored() -> tuple[Stored, MemoryRoot]:
    return Stored(), MemoryRoot()


def files(numbers: Sequence[int]) -> set[str]:
    return {f"file-{number}" for number in numbers}
