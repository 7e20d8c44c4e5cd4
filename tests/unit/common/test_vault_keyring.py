"""Keys: one per object, wrapped under its tenant's, bound to the part; destroyed means gone; the wrong root stops."""

import asyncio
import secrets
from pathlib import Path

import pytest
from cloister_common.settings import SettingsError
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore, VaultError


@pytest.fixture
def root(tmp_path: Path) -> FileRootKey:
    return root_key(tmp_path / "root")


def root_key(path: Path) -> FileRootKey:
    path.write_text(secrets.token_hex(32) + "\n")
    return FileRootKey(path)


@pytest.fixture
def store() -> MemoryKeyStore:
    return MemoryKeyStore()


@pytest.fixture
def keyring(root: FileRootKey, store: MemoryKeyStore) -> Keyring:
    return Keyring("gateway", root, store)


async def test_another_process_finds_the_same_key(root: FileRootKey, store: MemoryKeyStore, keyring: Keyring) -> None:
    made = await keyring.create("tenant-a", "conversation", "conv_1")
    found = await Keyring("gateway", root, store).get("tenant-a", "conversation", "conv_1")
    assert found is not None
    assert found.subkey("items") == made.subkey("items") != made.subkey("stream")
    assert found.tenant == "tenant-a"


async def test_object_without_a_key_has_none(keyring: Keyring) -> None:
    assert await keyring.get("tenant-a", "conversation", "conv_1") is None


async def test_an_object_gets_a_key_once(keyring: Keyring) -> None:
    await keyring.create("tenant-a", "conversation", "conv_1")
    with pytest.raises(VaultError):
        await keyring.create("tenant-a", "conversation", "conv_1")


async def test_another_tenant_cannot_open_the_key(root: FileRootKey, store: MemoryKeyStore, keyring: Keyring) -> None:
    await keyring.create("tenant-a", "conversation", "conv_1")
    await keyring.create("tenant-b", "conversation", "conv_2")
    for ring in (keyring, Keyring("gateway", root, store)):
        for tenant in ("tenant-b", "tenant-never-seen"):
            with pytest.raises(VaultError):
                await ring.get(tenant, "conversation", "conv_1")


async def test_wrapped_key_opens_only_under_its_own_name(
    root: FileRootKey, store: MemoryKeyStore, keyring: Keyring
) -> None:
    await keyring.create("tenant-a", "conversation", "conv_1")
    store.values["conversation:conv_9"] = store.values["conversation:conv_1"]
    store.values["file:conv_1"] = store.values["conversation:conv_1"]
    fresh = Keyring("gateway", root, store)
    for kind, object_id in (("conversation", "conv_9"), ("file", "conv_1")):
        with pytest.raises(VaultError):
            await fresh.get("tenant-a", kind, object_id)


async def test_another_part_cannot_open_the_keys(root: FileRootKey, store: MemoryKeyStore, keyring: Keyring) -> None:
    await keyring.create("tenant-a", "conversation", "conv_1")
    with pytest.raises(VaultError):
        await Keyring("retriever", root, store).get("tenant-a", "conversation", "conv_1")


async def test_destroyed_key_is_gone_from_store_and_cache(
    root: FileRootKey, store: MemoryKeyStore, keyring: Keyring
) -> None:
    await keyring.create("tenant-a", "conversation", "conv_1")
    await keyring.destroy("tenant-a", "conversation", "conv_1")
    assert await keyring.get("tenant-a", "conversation", "conv_1") is None
    assert await Keyring("gateway", root, store).get("tenant-a", "conversation", "conv_1") is None
    assert not [name for name in store.values if "conv_1" in name]


async def test_key_read_while_it_is_destroyed_does_not_stay_in_the_cache(
    root: FileRootKey, store: MemoryKeyStore, keyring: Keyring
) -> None:
    await keyring.create("tenant-a", "conversation", "conv_1")
    reading, go_on = asyncio.Event(), asyncio.Event()

    class SlowRoot:
        """A cloud KMS in the middle of its answer."""

        wrap = staticmethod(root.wrap)

        async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
            reading.set()
            await go_on.wait()
            return await root.unwrap(wrapped, context)

    slow = Keyring("gateway", SlowRoot(), store)
    reader = asyncio.create_task(slow.get("tenant-a", "conversation", "conv_1"))
    await reading.wait()
    await slow.destroy("tenant-a", "conversation", "conv_1")
    go_on.set()
    await reader
    assert await slow.get("tenant-a", "conversation", "conv_1") is None


async def test_key_forgotten_here_is_read_from_the_store_again(keyring: Keyring, store: MemoryKeyStore) -> None:
    await keyring.create("tenant-a", "conversation", "conv_1")
    del store.values["conversation:conv_1"]
    assert await keyring.get("tenant-a", "conversation", "conv_1") is not None, "from the cache"
    keyring.forget("tenant-a", "conversation", "conv_1")
    assert await keyring.get("tenant-a", "conversation", "conv_1") is None


async def test_altered_wrapped_key_is_refused(root: FileRootKey, store: MemoryKeyStore, keyring: Keyring) -> None:
    await keyring.create("tenant-a", "conversation", "conv_1")
    for name, wrapped in list(store.values.items()):
        for position in (0, 5, 8, 20, 60, len(wrapped) - 1):
            spoiled = bytearray(wrapped)
            spoiled[position] ^= 1
            store.values[name] = bytes(spoiled)
            with pytest.raises(VaultError):
                await Keyring("gateway", root, store).get("tenant-a", "conversation", "conv_1")
        store.values[name] = wrapped
    assert await Keyring("gateway", root, store).get("tenant-a", "conversation", "conv_1") is not None


async def test_wrong_root_key_stops_the_start(tmp_path: Path, store: MemoryKeyStore, keyring: Keyring) -> None:
    await keyring.check()
    await keyring.check()
    wrong = Keyring("gateway", root_key(tmp_path / "other"), store)
    with pytest.raises(VaultError):
        await wrong.check()
    await keyring.create("tenant-a", "conversation", "conv_1")
    with pytest.raises(VaultError):
        await wrong.get("tenant-a", "conversation", "conv_1")


async def test_processes_that_start_at_once_share_one_tenant_key(root: FileRootKey, store: MemoryKeyStore) -> None:
    rings = [Keyring("gateway", root, store) for _ in range(8)]
    names = await asyncio.gather(*(ring.name("tenant-a", "title") for ring in rings))
    assert len(set(names)) == 1


async def test_names_differ_by_tenant_and_parts_and_show_nothing(keyring: Keyring) -> None:
    names = [
        await keyring.name("tenant-a", "file", "budget.pdf"),
        await keyring.name("tenant-b", "file", "budget.pdf"),
        await keyring.name("tenant-a", "filebudget", ".pdf"),
        await keyring.name("tenant-a", "file", "budget.pdf", 0),
    ]
    assert len(set(names)) == 4
    assert names[0] == await keyring.name("tenant-a", "file", "budget.pdf")
    assert all(len(name) == 64 and int(name, 16) >= 0 for name in names)


async def test_keys_never_show_in_a_repr(keyring: Keyring) -> None:
    key = await keyring.create("tenant-a", "conversation", "conv_1")
    assert repr(key) == "DataKey(***)"


@pytest.mark.parametrize("content", ["", "changeme", "ab" * 31, "ab" * 33, "00" * 32, "zz" * 32, "é" * 64])
def test_root_key_that_is_not_64_random_hex_digits_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "root"
    path.write_text(content)
    with pytest.raises(SettingsError, match="openssl rand -hex 32"):
        FileRootKey(path)


def test_missing_root_key_is_refused_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="openssl rand -hex 32"):
        FileRootKey(tmp_path / "nowhere")
