"""Keys of two epochs side by side: new ones under the newer, old ones readable, brought over in place while in use."""

import asyncio
import secrets
from pathlib import Path

import pytest
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore, VaultError
from cloister_common.vault.cache import ShortCache
from cloister_common.vault.record import record_epoch

A, KIND = "tenant-a", "conv"


@pytest.fixture
def root(tmp_path: Path) -> FileRootKey:
    path = tmp_path / "root"
    path.write_text(secrets.token_hex(32))
    return FileRootKey(path)


@pytest.fixture
def store() -> MemoryKeyStore:
    return MemoryKeyStore()


@pytest.fixture
def keyring(root: FileRootKey, store: MemoryKeyStore) -> Keyring:
    return Keyring("gateway", root, store)


def epoch_of(store: MemoryKeyStore, object_id: str) -> int:
    return record_epoch(store.values[f"{KIND}:{object_id}"])


async def items_key(keyring: Keyring, object_id: str) -> bytes | None:
    key = await keyring.get(A, KIND, object_id)
    return None if key is None else key.subkey("items")


async def test_new_keys_are_wrapped_under_the_newest_epoch_and_old_ones_still_open(
    root: FileRootKey, store: MemoryKeyStore, keyring: Keyring
) -> None:
    old = (await keyring.create(A, KIND, "old")).subkey("items")
    assert await keyring.begin_epoch(A) == 2
    new = (await keyring.create(A, KIND, "new")).subkey("items")
    assert (epoch_of(store, "old"), epoch_of(store, "new")) == (1, 2)
    for ring in (keyring, Keyring("gateway", root, store)):
        assert (await items_key(ring, "old"), await items_key(ring, "new")) == (old, new)


async def test_key_is_wrapped_anew_in_place_and_stays_the_same_key(
    root: FileRootKey, store: MemoryKeyStore, keyring: Keyring
) -> None:
    key = (await keyring.create(A, KIND, "one")).subkey("items")
    assert not await keyring.rewrap(A, KIND, "one"), "there is no newer epoch yet"
    await keyring.begin_epoch(A)
    assert await keyring.rewrap(A, KIND, "one")
    assert epoch_of(store, "one") == 2
    assert not await keyring.rewrap(A, KIND, "one"), "it is under the newest already"
    assert await items_key(Keyring("gateway", root, store), "one") == key


async def test_readers_in_other_processes_never_miss_a_key_that_is_wrapped_anew(
    root: FileRootKey, store: MemoryKeyStore, keyring: Keyring
) -> None:
    key = (await keyring.create(A, KIND, "one")).subkey("items")
    reader = Keyring("gateway", root, store)
    done = asyncio.Event()

    async def read() -> int:
        reads = 0
        while not done.is_set() or not reads:
            reader.forget_all()
            assert await items_key(reader, "one") == key
            reads += 1
            await asyncio.sleep(0)
        return reads

    reading = asyncio.create_task(read())
    for epoch in range(2, 6):
        assert await keyring.begin_epoch(A) == epoch
        await asyncio.sleep(0)
        assert await keyring.rewrap(A, KIND, "one")
    done.set()
    assert await reading > 1
    assert epoch_of(store, "one") == 5


async def test_key_destroyed_while_it_is_wrapped_anew_stays_destroyed(
    root: FileRootKey, store: MemoryKeyStore, keyring: Keyring
) -> None:
    await keyring.create(A, KIND, "one")
    await keyring.begin_epoch(A)

    class DestroyedMeanwhile(MemoryKeyStore):
        async def replace(self, name: str, expected: bytes, wrapped: bytes) -> bool:
            await keyring.destroy(A, KIND, "one")
            return await super().replace(name, expected, wrapped)

    slow = DestroyedMeanwhile()
    slow.values = store.values
    assert not await Keyring("gateway", root, slow).rewrap(A, KIND, "one")
    assert await keyring.get(A, KIND, "one") is None


async def test_of_two_who_wrap_a_key_anew_one_does(root: FileRootKey, store: MemoryKeyStore, keyring: Keyring) -> None:
    key = (await keyring.create(A, KIND, "one")).subkey("items")
    rings = [Keyring("gateway", root, store) for _ in range(5)]
    assert {await ring.begin_epoch(A) for ring in rings[:1]} == {2}
    assert sorted(await asyncio.gather(*(ring.rewrap(A, KIND, "one") for ring in rings))) == [False] * 4 + [True]
    assert await items_key(Keyring("gateway", root, store), "one") == key


async def test_epochs_that_several_begin_at_once_all_have_a_key_and_what_is_wrapped_opens(root: FileRootKey) -> None:
    class Remote(MemoryKeyStore):
        async def get(self, name: str) -> bytes | None:
            await asyncio.sleep(0)
            return await super().get(name)

    store = Remote()
    rings = [Keyring("gateway", root, store) for _ in range(5)]
    epochs = await asyncio.gather(*(ring.begin_epoch(A) for ring in rings))
    assert all(f"tenant:{A}:{epoch}" in store.values for epoch in epochs)
    made = [(await ring.create(A, KIND, str(number))).subkey("items") for number, ring in enumerate(rings)]
    fresh = Keyring("gateway", root, store)
    assert [await items_key(fresh, str(number)) for number in range(5)] == made


async def test_another_process_hears_of_the_epoch_when_its_memory_is_dropped(
    root: FileRootKey, store: MemoryKeyStore, keyring: Keyring
) -> None:
    other = Keyring("gateway", root, store)
    await other.create(A, KIND, "before")
    await keyring.begin_epoch(A)
    await other.create(A, KIND, "unheard")
    other.forget_all()
    await other.create(A, KIND, "heard")
    assert [epoch_of(store, name) for name in ("before", "unheard", "heard")] == [1, 1, 2]
    assert await other.begin_epoch(A) == 3, "what the store has counts, not what was heard"


async def test_names_stay_what_they_were(keyring: Keyring) -> None:
    before = await keyring.name(A, "file", "x")
    await keyring.begin_epoch(A)
    assert await keyring.name(A, "file", "x") == before


async def test_key_of_another_tenant_is_not_wrapped_anew(keyring: Keyring) -> None:
    await keyring.create(A, KIND, "one")
    await keyring.begin_epoch("tenant-b")
    with pytest.raises(VaultError):
        await keyring.rewrap("tenant-b", KIND, "one")


async def test_keys_can_be_listed_by_kind(keyring: Keyring) -> None:
    for object_id in ("one", "two"):
        await keyring.create(A, KIND, object_id)
    await keyring.create(A, "file", "one")
    await keyring.begin_epoch(A)
    assert sorted([name async for name in keyring.names(KIND)]) == ["conv:one", "conv:two"]
    assert sorted([name async for name in keyring.names("tenant")]) == [f"tenant:{A}:1", f"tenant:{A}:2"]


async def test_destroyed_key_is_told_to_whoever_shares_the_store(
    root: FileRootKey, store: MemoryKeyStore, keyring: Keyring
) -> None:
    other = Keyring("gateway", root, store)
    await keyring.create(A, KIND, "one")
    assert await other.get(A, KIND, "one") is not None

    async def tell(tenant: str, kind: str, object_id: str) -> None:
        assert f"{kind}:{object_id}" not in store.values, "told when it is so"
        other.forget(tenant, kind, object_id)

    keyring.on_destroyed(tell)
    await keyring.destroy(A, KIND, "one")
    assert await other.get(A, KIND, "one") is None


async def test_nobody_uses_a_destroyed_key_longer_than_it_may_stay_in_memory(
    root: FileRootKey, store: MemoryKeyStore, keyring: Keyring
) -> None:
    other = Keyring("retriever", root, store, cache_seconds=0.05)
    mine = Keyring("retriever", root, store)
    await mine.create(A, "file", "one")
    assert await other.get(A, "file", "one") is not None
    await mine.destroy(A, "file", "one")
    async with asyncio.timeout(60):
        while await other.get(A, "file", "one") is not None:
            await asyncio.sleep(0.01)


async def test_key_that_nobody_asks_for_leaves_the_memory_too(root: FileRootKey, store: MemoryKeyStore) -> None:
    ring = Keyring("gateway", root, store, cache_seconds=0.05)
    await ring.create(A, KIND, "one")
    assert ring.in_memory == 1
    async with asyncio.timeout(60):
        while ring.in_memory:
            await asyncio.sleep(0.01)


async def test_cache_holds_so_many_and_the_oldest_go_first() -> None:
    cache: ShortCache[int] = ShortCache(seconds=60, most=2)
    for number in range(3):
        cache.put(str(number), number)
    assert [cache.get(name) for name in "012"] == [None, 1, 2]
    cache.put("1", 7)
    cache.put("3", 3)
    assert [cache.get(name) for name in "123"] == [7, None, 3]
