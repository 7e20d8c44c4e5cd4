"""Tenant keys and data keys: made once, kept wrapped in a store, unwrapped into a short-lived cache.

A keyring belongs to one *part* (``gateway``, ``retriever``): the part's name is bound into every wrapped key, so the
two never share one, and a key copied from one store into the other does not open. Destroying an object means
destroying its data key: `Keyring.destroy`.

A tenant has a key for each *epoch*. Every wrapped data key names the epoch it was wrapped under, so keys of several
epochs live side by side: `Keyring.begin_epoch` makes the next, under which new keys are wrapped, and `Keyring.rewrap`
brings older ones over one by one, in place, while they are in use. The data keys, and all that they sealed, stay.
"""

import hashlib
import hmac
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from cloister_common.vault.cache import ShortCache
from cloister_common.vault.data_key import DataKey
from cloister_common.vault.encoding import encode_context
from cloister_common.vault.record import VaultError, derive, open_record, record_epoch, seal
from cloister_common.vault.root import RootKeyProvider
from cloister_common.vault.store import KeyStore

__all__ = ["Destroyed", "Keyring", "NewKey"]

_CACHE_SECONDS = 300.0
_CACHE_KEYS = 10_000
_FIRST_EPOCH = 1
"""Made at a tenant's first use. The naming key is this epoch's for ever: names must not change."""

Destroyed = Callable[[str, str, str], Awaitable[None]]
"""Told the tenant, kind and id of an object whose key was destroyed."""


class NewKey(NamedTuple):
    """A data key that is not stored yet.

    Attributes:
        name: What the key store calls it.
        wrapped: What is to be stored under that name.
        key: For use from then on.
    """

    name: str
    wrapped: bytes
    key: DataKey


class Keyring:
    """Makes, finds, caches, re-wraps and destroys the keys of one part.

    Args:
        part: ``gateway`` or ``retriever``.
        root: Wraps the tenant keys.
        store: Holds what is wrapped.
        cache_seconds: How long an unwrapped data key may stay in memory, and so how long one may be used here that
            another process destroyed, if nobody tells this one (`forget`).
    """

    def __init__(
        self, part: str, root: RootKeyProvider, store: KeyStore, *, cache_seconds: float = _CACHE_SECONDS
    ) -> None:
        self._part = part
        self._root = root
        self._store = store
        self._data_keys: ShortCache[DataKey] = ShortCache(seconds=cache_seconds, most=_CACHE_KEYS)
        self._tenant_keys: ShortCache[bytes] = ShortCache(seconds=_CACHE_SECONDS, most=_CACHE_KEYS)
        self._epochs: ShortCache[int] = ShortCache(seconds=_CACHE_SECONDS, most=_CACHE_KEYS)
        self._forgotten = 0
        self._destroyed: Destroyed | None = None

    def on_destroyed(self, tell: Destroyed) -> None:
        """Has ``tell`` called after every `destroy` here: whoever shares the store forgets the key too."""
        self._destroyed = tell

    async def create(self, tenant: str, kind: str, object_id: str) -> DataKey:
        """A new data key for the object, durable when this returns.

        Raises:
            VaultError: The object has a key already.
        """
        made = await self.make(tenant, kind, object_id)
        if not await self._store.put_if_absent(made.name, made.wrapped):
            raise VaultError
        self._data_keys.put(f"{tenant}/{made.name}", made.key)
        return made.key

    async def make(self, tenant: str, kind: str, object_id: str) -> NewKey:
        """A data key for an object that is to be stored with it in one write: the caller's, with all else of it.

        Only for objects whose id was made just now, at random: no other can have a key.
        """
        key = os.urandom(32)
        wrapped = await self._wrap(tenant, kind, object_id, key, await self._epoch(tenant))
        return NewKey(_data_name(kind, object_id), wrapped, DataKey(key, tenant=tenant))

    def stored(self, made: NewKey) -> None:
        """Keeps a key of `make` in memory, as any that was read, since it is durable now."""
        self._data_keys.put(f"{made.key.tenant}/{made.name}", made.key)

    def known(self, tenant: str, kind: str, object_id: str) -> DataKey | None:
        """The object's data key, if it is in memory; only a tenant's own keys are."""
        return self._data_keys.get(f"{tenant}/{_data_name(kind, object_id)}")

    async def get(self, tenant: str, kind: str, object_id: str) -> DataKey | None:
        """The object's data key, or None if it has none (never made, or destroyed).

        Raises:
            VaultError: There is one, but it is not this tenant's, kind's and object's.
        """
        name = _data_name(kind, object_id)
        forgotten = self._forgotten
        cached = self._data_keys.get(f"{tenant}/{name}")
        if cached is not None:
            return cached
        wrapped = await self._store.get(name)
        if wrapped is None:
            return None
        key = DataKey(await self._unwrap(tenant, kind, object_id, wrapped), tenant=tenant)
        # A key that was destroyed while it was being read must not come back through the cache.
        if forgotten == self._forgotten:
            self._data_keys.put(f"{tenant}/{name}", key)
        return key

    async def obtain(self, tenant: str, kind: str, object_id: str) -> DataKey:
        """The object's data key, made at its first use. Of two makers one wins, and both use the winner's.

        Raises:
            VaultError: As `get`.
        """
        key = await self.get(tenant, kind, object_id)
        if key is None:
            try:
                key = await self.create(tenant, kind, object_id)
            except VaultError:
                key = await self.get(tenant, kind, object_id)
        if key is None:
            raise VaultError
        return key

    async def destroy(self, tenant: str, kind: str, object_id: str) -> None:
        """Destroys the object's data key: what it sealed can never be opened again."""
        self.forget(tenant, kind, object_id)
        await self._store.delete(_data_name(kind, object_id))
        self.forget(tenant, kind, object_id)
        if self._destroyed is not None:
            await self._destroyed(tenant, kind, object_id)

    def forget(self, tenant: str, kind: str, object_id: str) -> None:
        """Drops a key from this process's cache, since another process destroyed it."""
        self._forgotten += 1
        self._data_keys.drop(f"{tenant}/{_data_name(kind, object_id)}")

    def forget_all(self) -> None:
        """Drops every key from this process's cache, since it may have missed what others destroyed."""
        self._forgotten += 1
        for cache in (self._data_keys, self._tenant_keys, self._epochs):
            cache.clear()

    @property
    def in_memory(self) -> int:
        """How many unwrapped data keys are in this process's cache."""
        return len(self._data_keys)

    def names(self, kind: str) -> AsyncIterator[str]:
        """The names of the stored keys of one kind of object, ``KIND:ID``; see `KeyStore.names` for what may lack."""
        return self._store.names(f"{kind}:")

    async def begin_epoch(self, tenant: str) -> int:
        """Makes the tenant's next key, under which new data keys are wrapped from now on; its number.

        Other processes learn of it within `_CACHE_SECONDS`; until then they wrap under the one before, which stays.
        """
        # Asked of the store: this process may not have heard yet of one that another began.
        current = await self._newest_epoch(tenant)
        await self._store.put_if_absent(_tenant_name(tenant, current + 1), await self._new(tenant, current + 1))
        self._epochs.drop(tenant)
        return await self._epoch(tenant)

    async def rewrap(self, tenant: str, kind: str, object_id: str) -> bool:
        """Wraps the object's data key under the tenant's newest key, in place; whoever reads it finds one or the other.

        Returns:
            Whether it did: not where there is no key (any more), or one that is wrapped so already.

        Raises:
            VaultError: The key is not this tenant's, kind's and object's.
        """
        name, epoch = _data_name(kind, object_id), await self._epoch(tenant)
        while True:
            wrapped = await self._store.get(name)
            if wrapped is None or record_epoch(wrapped) >= epoch:
                return False
            key = await self._unwrap(tenant, kind, object_id, wrapped)
            renewed = await self._wrap(tenant, kind, object_id, key, epoch)
            # If not: it was destroyed, or somebody else has wrapped it anew. The next look tells.
            if await self._store.replace(name, wrapped, renewed):
                return True

    async def name(self, tenant: str, *parts: str | int | bytes) -> str:
        """A stable name a store may see for ``parts``: HMAC-SHA256 under the tenant's naming key, 64 hex digits."""
        first = await self._tenant_key_made(tenant)
        return hmac.new(derive(first, "naming"), encode_context(*parts), hashlib.sha256).hexdigest()

    async def check(self) -> None:
        """Raises unless the root key opens what it wrapped before: a wrong key must stop the process at its start."""
        context = self._tenant_context("", 0)
        wrapped = await self._store.get("root-check")
        if wrapped is None:
            wrapped = await self._root.wrap(os.urandom(32), context)
            if await self._store.put_if_absent("root-check", wrapped):
                return
            wrapped = await self._store.get("root-check") or b""
        await self._root.unwrap(wrapped, context)

    async def _wrap(self, tenant: str, kind: str, object_id: str, key: bytes, epoch: int) -> bytes:
        tenant_key = await self._tenant_key(tenant, epoch)
        if tenant_key is None:
            raise VaultError
        return seal(derive(tenant_key, "wrap"), key, self._data_context(tenant, kind, object_id), epoch=epoch)

    async def _unwrap(self, tenant: str, kind: str, object_id: str, wrapped: bytes) -> bytes:
        tenant_key = await self._tenant_key(tenant, record_epoch(wrapped))
        if tenant_key is None:
            raise VaultError
        return open_record(derive(tenant_key, "wrap"), wrapped, self._data_context(tenant, kind, object_id))

    async def _epoch(self, tenant: str) -> int:
        """The tenant's newest epoch, as far as this process has heard."""
        epoch = self._epochs.get(tenant)
        if epoch is None:
            epoch = await self._newest_epoch(tenant)
            self._epochs.put(tenant, epoch)
        return epoch

    async def _newest_epoch(self, tenant: str) -> int:
        await self._tenant_key_made(tenant)
        epoch = self._epochs.get(tenant) or _FIRST_EPOCH
        while await self._store.get(_tenant_name(tenant, epoch + 1)) is not None:
            epoch += 1
        return epoch

    async def _tenant_key_made(self, tenant: str) -> bytes:
        """The tenant's key of the first epoch, made at its first use. Of two makers one wins, and both use its."""
        key = await self._tenant_key(tenant, _FIRST_EPOCH)
        if key is None:
            await self._store.put_if_absent(_tenant_name(tenant, _FIRST_EPOCH), await self._new(tenant, _FIRST_EPOCH))
            key = await self._tenant_key(tenant, _FIRST_EPOCH)
        if key is None:
            raise VaultError
        return key

    async def _new(self, tenant: str, epoch: int) -> bytes:
        return await self._root.wrap(os.urandom(32), self._tenant_context(tenant, epoch))

    async def _tenant_key(self, tenant: str, epoch: int) -> bytes | None:
        name = _tenant_name(tenant, epoch)
        cached = self._tenant_keys.get(name)
        if cached is not None:
            return cached
        wrapped = await self._store.get(name)
        if wrapped is None:
            return None
        key = await self._root.unwrap(wrapped, self._tenant_context(tenant, epoch))
        self._tenant_keys.put(name, key)
        return key

    def _tenant_context(self, tenant: str, epoch: int) -> bytes:
        return encode_context("tenant-key", self._part, tenant, epoch)

    def _data_context(self, tenant: str, kind: str, object_id: str) -> bytes:
        return encode_context("data-key", self._part, tenant, kind, object_id)


def _data_name(kind: str, object_id: str) -> str:
    return f"{kind}:{object_id}"


def _tenant_name(tenant: str, epoch: int) -> str:
    return f"tenant:{tenant}:{epoch}"
