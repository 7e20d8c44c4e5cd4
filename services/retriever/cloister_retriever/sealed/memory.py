"""What is open of sealed vector stores: blocks in memory, read when a store is searched, bounded in bytes.

A store is looked up in the object store when it may have changed: within seconds of having grown, and every ten
seconds while it is searched. What was removed there, by whatever process, leaves the memory with that look, and once a
minute also where nobody searches. Where the bound is reached the stores that were searched longest ago go first.
"""

import asyncio
import time
from collections import OrderedDict

from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, Keyring, VaultError
from prometheus_client import Counter, Gauge

from cloister_retriever.index.passages import PassageOwner
from cloister_retriever.index.protocol import DROPPED
from cloister_retriever.keys import VECTOR_STORE, PassageKeyring, PassageKeys
from cloister_retriever.sealed.pack import Block, opened
from cloister_retriever.sealed.packs import PackName, Packs
from cloister_retriever.storage.objects import each

__all__ = ["OpenStores"]

log = get_logger(__name__)
_HELD = Gauge("cloister_sealed_bytes", "Bytes that are open of sealed vector stores.")
_READ = Counter("cloister_sealed_packs_read_total", "Packs of sealed vector stores that were read and opened.")

_LOOK_SECONDS = 10.0
_SWEEP_SECONDS = 60.0
"""As long as a key that another process destroyed may live in this one."""


class _Open:
    """One store's blocks, by the path of their pack. A pack that does not open has none, and is not tried again."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.blocks: dict[str, tuple[str, Block | None]] = {}
        self.looked_at: float | None = None

    @property
    def held_bytes(self) -> int:
        return sum(block.held_bytes for _, block in self.blocks.values() if block is not None)


class OpenStores:
    """The open stores of all tenants.

    Args:
        packs: Where they are read from.
        keyring: Of the retriever.
        most_bytes: Of all blocks together. A store that has more by itself is open while it is searched.
    """

    def __init__(self, packs: Packs, keyring: Keyring, *, most_bytes: int) -> None:
        self._packs = packs
        self._keyring = keyring
        self._keys = PassageKeyring(keyring)
        self._most_bytes = most_bytes
        self._stores: OrderedDict[tuple[str, str], _Open] = OrderedDict()

    async def blocks(self, tenant: str, store_id: str, key: DataKey, *, fresh: bool) -> list[Block]:
        """What there is of a store.

        Args:
            tenant: Whose the store is.
            store_id: The store.
            key: Its key.
            fresh: Look for what was written just now.
        """
        name = (tenant, store_id)
        store = self._stores.setdefault(name, _Open())
        self._stores.move_to_end(name)
        async with store.lock:
            if fresh or store.looked_at is None or time.monotonic() - store.looked_at >= _LOOK_SECONDS:
                await self._look(tenant, store_id, key, store)
            blocks = [block for _, block in store.blocks.values() if block is not None]
        self._make_room()
        return blocks

    def forget(self, tenant: str, store_id: str, attachment_id: str | None = None) -> None:
        """Drops what is open of a store, or of an attachment of it."""
        store = self._stores.get((tenant, store_id))
        if store is None:
            return
        if attachment_id is None:
            del self._stores[tenant, store_id]
        else:
            store.blocks = {
                path: held
                for path, held in store.blocks.items()
                if held[1] is None or held[1].owner.attachment_id != attachment_id
            }
        self._make_room()

    async def run(self) -> None:
        """Drops what is gone, for as long as the process lives."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            await self.sweep()

    async def sweep(self) -> None:
        """Drops what is gone now. A store that cannot be looked up is dropped whole: it is read again when needed."""
        for tenant, store_id in list(self._stores):
            try:
                key = await self._keyring.get(tenant, VECTOR_STORE, store_id)
                there = {(one.path, one.e_tag) for one in await self._packs.list(tenant, store_id)}
            except (Unavailable, VaultError):
                key, there = None, set()
            store = self._stores.get((tenant, store_id))
            if key is None:
                self.forget(tenant, store_id)
            elif store is not None:
                store.blocks = {path: held for path, held in store.blocks.items() if (path, held[0]) in there}
        self._make_room()

    async def _look(self, tenant: str, store_id: str, key: DataKey, store: _Open) -> None:
        """Opens what is new and drops what is gone."""
        looked_at = time.monotonic()
        names = await self._packs.list(tenant, store_id)
        there = {name.path: name.e_tag for name in names}
        store.blocks = {path: held for path, held in store.blocks.items() if there.get(path) == held[0]}
        new = [name for name in names if name.path not in store.blocks]
        keys: dict[str, PassageKeys] = {}
        for file_id in {name.file_id for name in new}:
            found = await self._keys.get(tenant, key, file_id)
            if found is not None:
                keys[file_id] = found

        async def read(name: PackName) -> None:
            if name.file_id not in keys:
                return  # its file is being deleted
            data = await self._packs.read(name)
            if data is not None:
                owner = PassageOwner(tenant, store_id, name.file_id, name.attachment_id)
                block = await asyncio.to_thread(_opened, keys[name.file_id], owner, name, data)
                store.blocks[name.path] = (name.e_tag, block)

        await each(read, new)
        store.looked_at = looked_at

    def _make_room(self) -> None:
        held = {name: store.held_bytes for name, store in self._stores.items()}
        total = sum(held.values())
        for name, size in held.items():
            if total <= self._most_bytes:
                break
            del self._stores[name]
            total -= size
        _HELD.set(total)


def _opened(keys: PassageKeys, owner: PassageOwner, name: PackName, data: bytes) -> Block | None:
    _READ.inc()
    try:
        block = opened(keys, owner, name.first, data)
        if len(block) == name.passages:
            return block
    except VaultError:
        pass
    DROPPED.labels("did_not_open").inc(name.passages)
    log.error("pack_did_not_open", store=owner.store_id, attachment=owner.attachment_id, first=name.first)
    return None
