"""Wrapped keys in the object store: replaced only where they are what they were, listed by name, gone for good."""

import asyncio
import hashlib
import threading
from pathlib import Path

import pytest
from cloister_retriever.storage.folder import FolderObjects
from cloister_retriever.storage.keys import ObjectKeyStore
from cloister_retriever.storage.objects import Objects
from obstore.store import MemoryStore

NAME = "file:file-1"


@pytest.fixture(params=["folder", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """A folder, and a store with S3's conditional writes."""
    return FolderObjects(tmp_path) if request.param == "folder" else Objects(MemoryStore())


@pytest.fixture
def store(objects: Objects) -> ObjectKeyStore:
    return ObjectKeyStore(objects)


async def names(store: ObjectKeyStore, prefix: str) -> list[str]:
    return sorted([name async for name in store.names(prefix)])


async def test_key_is_replaced_only_where_it_is_what_it_was(store: ObjectKeyStore) -> None:
    assert not await store.replace(NAME, b"one", b"two")
    assert await store.get(NAME) is None
    await store.put_if_absent(NAME, b"one")
    assert not await store.replace(NAME, b"other", b"two")
    assert await store.replace(NAME, b"one", b"two")
    assert not await store.replace(NAME, b"one", b"three")
    assert await store.get(NAME) == b"two"


async def test_of_many_who_replace_a_key_one_does(store: ObjectKeyStore) -> None:
    await store.put_if_absent(NAME, b"one")
    won = await asyncio.gather(*(store.replace(NAME, b"one", b"%d" % number) for number in range(8)))
    assert won.count(True) == 1
    assert await store.get(NAME) == b"%d" % won.index(True)


async def test_destroyed_key_never_comes_back_through_one_who_replaces_it(store: ObjectKeyStore) -> None:
    for number in range(20):
        name = f"file:file-{number}"
        await store.put_if_absent(name, b"one")
        await asyncio.gather(store.replace(name, b"one", b"two"), store.delete(name))
        assert await store.get(name) is None


async def test_names_can_be_listed_and_go_with_their_keys(store: ObjectKeyStore) -> None:
    made = ["file:file-1", "file:file-2", "vs:vs_1", "tenant:proj_a:1", "tenant::retriever:1", "root-check"]
    for name in made:
        await store.put_if_absent(name, b"x")
    assert await names(store, "file:") == ["file:file-1", "file:file-2"]
    assert await names(store, "file:file-2") == ["file:file-2"]
    assert await names(store, "tenant:") == [], "the object store must not show tenants"
    assert await names(store, "batch:") == []
    await store.delete("file:file-1")
    assert await names(store, "file:") == ["file:file-2"]


async def test_key_of_a_version_without_names_is_found_replaced_and_destroyed(
    objects: Objects, store: ObjectKeyStore
) -> None:
    await objects.create(f"keys/{hashlib.sha256(NAME.encode()).hexdigest()}", b"old")
    assert await store.get(NAME) == b"old"
    assert not await store.put_if_absent(NAME, b"second")
    assert await store.replace(NAME, b"old", b"new")
    await store.delete(NAME)
    assert await store.get(NAME) is None


async def test_readers_of_a_folder_find_a_key_while_it_is_replaced(tmp_path: Path) -> None:
    writer, reader = ObjectKeyStore(FolderObjects(tmp_path)), FolderObjects(tmp_path)
    await writer.put_if_absent(NAME, b"0")
    done, missed = threading.Event(), []

    async def read() -> None:
        while not done.is_set():
            missed.append(await ObjectKeyStore(reader).get(NAME) is None)
            await asyncio.sleep(0)

    reading = asyncio.create_task(read())
    for number in range(50):
        assert await writer.replace(NAME, b"%d" % number, b"%d" % (number + 1))
    done.set()
    await reading
    assert missed
    assert not any(missed)
