"""Sweeps that bundle: what they cost who has little, what they leave for the next time, and what never comes in."""

import pytest
from cloister_common.errors import Unavailable
from cloister_common.vault import DataKey, VaultError
from cloister_retriever.editions import Place
from cloister_retriever.index.passages import Passage, PassageOwner, seal_passage
from cloister_retriever.index.protocol import Entry
from cloister_retriever.index.rotation import Rotations
from cloister_retriever.keys import (
    FILE,
    VECTOR_STORE,
    PassageKeys,
    passage_keys,
    picture_key,
    picture_place,
)
from cloister_retriever.sealed.index import SealedIndex
from cloister_retriever.storage.objects import ListedObject
from cloister_retriever.vector_stores.schemas import CreateStore

from tests.support.retriever_memory import TENANT, MemoryProcess, MemoryRoot, Stored
from tests.unit.retriever.bundled import MANY, OTHER, PLACE, STORE, Counted, files, place_of, stored, vector_of
from tests.unit.retriever.test_crashes import settled, short_pauses

__all__ = ["short_pauses", "stored"]


async def words_of(process: MemoryProcess, count: int) -> tuple[str, DataKey]:
    """A store with so many files of one word each, and its key."""
    ids = [(await process.upload(f"room{number}")).id for number in range(count)]
    store = (await process.stores.create(TENANT, CreateStore(file_ids=ids))).id
    await settled(process)
    return store, (await process.stores.get(TENANT, store)).key


async def test_words_of_few_files_cost_a_sweep_nothing(stored: tuple[Stored, MemoryRoot]) -> None:
    store, key = await words_of(MemoryProcess(*stored), 3)
    cold = Counted(*stored)
    assert (await cold.words.of(TENANT, Place(store), key, 0.0)).frequencies().passages == 3

    async def asked(prefix: str) -> list[ListedObject]:
        raise AssertionError(f"{prefix} was listed")

    cold.read.clear()
    cold.objects.list = asked  # type: ignore[method-assign]
    await cold.words.sweep()
    assert cold.read == []


async def test_words_that_could_not_be_bundled_are_tried_again_though_nobody_searches(
    stored: tuple[Stored, MemoryRoot], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Counted(*stored)
    store, _ = await words_of(process, MANY)

    async def away(prefix: str) -> list[ListedObject]:
        raise Unavailable("away", retry_after=1)

    with monkeypatch.context() as outage:
        outage.setattr(process.objects, "list", away)
        await process.words.sweep()
    await process.words.sweep()
    assert len(await process.bundles.list(TENANT, store, "words")) == 1


async def test_words_that_do_not_open_are_in_no_bundle(stored: tuple[Stored, MemoryRoot]) -> None:
    process = Counted(*stored)
    store, _ = await words_of(process, MANY)
    for path in [one.path for one in await process.objects.list("t") if f"/words/{store}/" in one.path]:
        await process.objects.put(path, b"damaged")
    await process.words.sweep()
    assert await process.paths() == []


async def test_a_full_disk_is_spared_bundles_and_stores_are_searched_without(
    stored: tuple[Stored, MemoryRoot], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Counted(*stored)
    await process.fill(range(MANY))

    def full() -> None:
        raise Unavailable("full", retry_after=1)

    monkeypatch.setattr(process.objects, "check_room", full)
    await process.open_stores.sweep()
    assert await process.paths() == []
    assert await process.found() == files(range(MANY))
    monkeypatch.undo()
    await process.open_stores.sweep()
    assert len(await process.ids()) == 1


async def test_a_key_that_does_not_open_keeps_no_other_store_from_being_swept(
    stored: tuple[Stored, MemoryRoot],
) -> None:
    process = Counted(*stored)
    await process.fill(range(MANY))
    await process.fill(range(1000, 1000 + MANY), OTHER)
    broken = Counted(*stored)
    broken.open_stores.note_filled(TENANT, PLACE)
    broken.open_stores.note_filled(OTHER, place_of(OTHER))
    get = broken.keys.get

    async def damaged(tenant: str, store_key: DataKey, file_id: str, edition: int = 0) -> PassageKeys | None:
        if file_id == "file-3":
            raise VaultError
        return await get(tenant, store_key, file_id, edition)

    broken.open_stores._keys.get = damaged  # type: ignore[method-assign]
    await broken.open_stores.sweep()
    assert await process.ids() == []
    assert len(await process.bundles.list(OTHER, place_of(OTHER).name, "packs")) == 1


async def test_what_could_not_be_bundled_is_tried_again_though_nobody_searches(
    stored: tuple[Stored, MemoryRoot], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Counted(*stored)
    await process.fill(range(MANY))

    async def away(prefix: str) -> list[ListedObject]:
        raise Unavailable("away", retry_after=1)

    with monkeypatch.context() as outage:
        outage.setattr(process.objects, "list", away)
        await process.open_stores.sweep()
    await process.open_stores.sweep()
    assert len(await process.ids()) == 1


async def test_sweeping_keeps_what_was_searched_last_and_opens_nothing_that_made_room(
    stored: tuple[Stored, MemoryRoot],
) -> None:
    process = Counted(*stored)
    await process.fill(range(MANY))
    await process.fill(range(1000, 1000 + MANY), OTHER)
    await process.open_stores.sweep()
    process = Counted(*stored)
    await process.found()
    held = process.open_stores._stores[TENANT, PLACE].held_bytes
    process.open_stores._most_bytes = held + held // 2
    process.open_stores.note_filled(OTHER, place_of(OTHER))
    for _ in range(2):
        process.read.clear()
        await process.open_stores.sweep()
        assert not [path for path in process.read if f"/{STORE}/" in path]
    assert list(process.open_stores._stores) == [(TENANT, PLACE)]


async def test_vectors_of_two_lengths_are_in_no_bundle_together(stored: tuple[Stored, MemoryRoot]) -> None:
    process = Counted(*stored)
    await process.fill(range(MANY))
    await process.fill(range(MANY, 2 * MANY), dimensions=16)
    for _ in range(2):
        await process.open_stores.sweep()
    assert len(await process.ids()) == 1
    cold = Counted(*stored)
    blocks = await cold.open_stores.blocks(TENANT, PLACE, await cold.store_key(), fresh=True)
    assert sum(map(len, blocks)) == 2 * MANY
    assert len([path for path in cold.read if "/packs/vs_1/" in path]) == MANY


async def test_pictures_of_a_store_are_bundled_and_stay_open_as_long_as_it_is_there(
    stored: tuple[Stored, MemoryRoot],
) -> None:
    process = Counted(*stored)
    place = Place(picture_place(STORE))
    key = picture_key(await process.store_key(), TENANT)
    index = SealedIndex(process.open_stores._packs, process.open_stores, process.keys, Rotations(), TENANT, place, key)
    for number in range(MANY):
        keys = passage_keys(key, await process.open_stores._keyring.obtain(TENANT, FILE, f"file-{number}"))
        owner = PassageOwner(TENANT, place.store_id, f"file-{number}", f"vsf_{number}")
        picture = Passage(position=0, text="", start=0, end=0)
        await index.upsert([Entry(seal_passage(keys, owner, picture, vector_of(number)), [], {})])
    await index.count(place.name, [])
    await process.open_stores.sweep()
    assert list(process.open_stores._stores) == [(TENANT, place)]
    cold = Counted(*stored)
    blocks = await cold.open_stores.blocks(TENANT, place, key, fresh=True)
    assert {part.owner.file_id for block in blocks for part in block.parts} == files(range(MANY))
    assert not [path for path in cold.read if "/packs/" in path and "/bundles/" not in path]
    await cold.open_stores.sweep()
    assert list(cold.open_stores._stores) == [(TENANT, place)]
    await cold.open_stores._keyring.destroy(TENANT, VECTOR_STORE, STORE)
    await cold.open_stores.sweep()
    assert not cold.open_stores._stores
