"""Tenant keys and data keys: made once, kept wrapped in a store, unwrapped into a short-lived cache.

A keyring belongs to one *part* (``gateway``, ``retriever``): the part's name is bound into every wrapped key, so the
two never share one, and a key copied from one store into the other does not open. Destroying an object means
destroying its data key: `Keyring.destroy`.
"""

import hashlib
import hmac
import os
import time
from collections import OrderedDict
from typing import Protocol

from cloister_common.vault.encoding import encode_context
from cloister_common.vault.record import VaultError, derive, open_record, record_epoch, seal
from cloister_common.vault.root import RootKeyProvider

__all__ = ["DataKey", "KeyStore", "Keyring", "MemoryKeyStore"]

_CACHE_SECONDS = 300.0
_CACHE_KEYS = 10_000
_EPOCH = 1
"""The epoch new keys are wrapped under. Every wrapped key names its epoch, so rotation adds epochs beside it."""


class KeyStore(Protocol):
    """Where wrapped keys lie: Redis for the gateway, the object store for the retriever. Values are sealed already."""

    async def get(self, name: str) -> bytes | None:
        """The wrapped key called ``name``, or None."""
        ...

    async def put_if_absent(self, name: str, wrapped: bytes) -> bool:
        """Stores durably unless there is one already; says whether it stored."""
        ...

    async def delete(self, name: str) -> None:
        """Removes it; no error if there is none."""
        ...


class MemoryKeyStore:
    """A key store in memory, for tests."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, name: str) -> bytes | None:
        return self.values.get(name)

    async def put_if_absent(self, name: str, wrapped: bytes) -> bool:
        return self.values.setdefault(name, wrapped) is wrapped

    async def delete(self, name: str) -> None:
        self.values.pop(name, None)


class DataKey:
    """The key of one object. Give out only `subkey`\\ s; the key itself has no repr."""

    __slots__ = ("_key", "_subkeys", "tenant")

    def __init__(self, key: bytes, *, tenant: str) -> None:
        self._key = key
        self._subkeys: dict[str, bytes] = {}
        self.tenant = tenant

    def subkey(self, label: str) -> bytes:
        """The 32-byte key for one purpose (``items``, ``stream``, ``chain``, …)."""
        found = self._subkeys.get(label)
        if found is None:
            found = self._subkeys[label] = derive(self._key, label)
        return found

    def __repr__(self) -> str:
        return "DataKey(***)"


class Keyring:
    """Makes, finds, caches and destroys the keys of one part.

    Args:
        part: ``gateway`` or ``retriever``.
        root: Wraps the tenant keys.
        store: Holds what is wrapped.
    """

    def __init__(self, part: str, root: RootKeyProvider, store: KeyStore) -> None:
        self._part = part
        self._root = root
        self._store = store
        self._cache: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._forgotten = 0

    async def create(self, tenant: str, kind: str, object_id: str) -> DataKey:
        """A new data key for the object, durable when this returns.

        Raises:
            VaultError: The object has a key already.
        """
        tenant_key = await self._first_tenant_key(tenant)
        key = os.urandom(32)
        wrapped = seal(derive(tenant_key, "wrap"), key, self._data_context(tenant, kind, object_id), epoch=_EPOCH)
        if not await self._store.put_if_absent(self._data_name(kind, object_id), wrapped):
            raise VaultError
        self._remember(f"{tenant}/{self._data_name(kind, object_id)}", key)
        return DataKey(key, tenant=tenant)

    async def get(self, tenant: str, kind: str, object_id: str) -> DataKey | None:
        """The object's data key, or None if it has none (never made, or destroyed).

        Raises:
            VaultError: There is one, but it is not this tenant's, kind's and object's.
        """
        name = self._data_name(kind, object_id)
        forgotten = self._forgotten
        cached = self._recall(f"{tenant}/{name}")
        if cached is not None:
            return DataKey(cached, tenant=tenant)
        wrapped = await self._store.get(name)
        if wrapped is None:
            return None
        tenant_key = await self._tenant_key(tenant, record_epoch(wrapped))
        if tenant_key is None:
            raise VaultError
        key = open_record(derive(tenant_key, "wrap"), wrapped, self._data_context(tenant, kind, object_id))
        # A key that was destroyed while it was being read must not come back through the cache.
        if forgotten == self._forgotten:
            self._remember(f"{tenant}/{name}", key)
        return DataKey(key, tenant=tenant)

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
        await self._store.delete(self._data_name(kind, object_id))
        self.forget(tenant, kind, object_id)

    def forget(self, tenant: str, kind: str, object_id: str) -> None:
        """Drops a key from this process's cache, since another process destroyed it."""
        self._forgotten += 1
        self._cache.pop(f"{tenant}/{self._data_name(kind, object_id)}", None)

    async def name(self, tenant: str, *parts: str | int | bytes) -> str:
        """A stable name a store may see for ``parts``: HMAC-SHA256 under the tenant's naming key, 64 hex digits."""
        first = await self._first_tenant_key(tenant)
        return hmac.new(derive(first, "naming"), encode_context(*parts), hashlib.sha256).hexdigest()

    async def check(self) -> None:
        """Raises unless the root key opens what it wrapped before: a wrong key must stop the process at its start."""
        context = encode_context("tenant-key", self._part, "", 0)
        wrapped = await self._store.get("root-check")
        if wrapped is None:
            wrapped = await self._root.wrap(os.urandom(32), context)
            if await self._store.put_if_absent("root-check", wrapped):
                return
            wrapped = await self._store.get("root-check") or b""
        await self._root.unwrap(wrapped, context)

    async def _first_tenant_key(self, tenant: str) -> bytes:
        """The tenant's key of epoch 1, made at its first use. Of two makers one wins, and both use the winner's."""
        key = await self._tenant_key(tenant, _EPOCH)
        if key is None:
            wrapped = await self._root.wrap(os.urandom(32), self._tenant_context(tenant, _EPOCH))
            await self._store.put_if_absent(f"tenant:{tenant}:{_EPOCH}", wrapped)
            key = await self._tenant_key(tenant, _EPOCH)
        if key is None:
            raise VaultError
        return key

    async def _tenant_key(self, tenant: str, epoch: int) -> bytes | None:
        name = f"tenant:{tenant}:{epoch}"
        cached = self._recall(name)
        if cached is not None:
            return cached
        wrapped = await self._store.get(name)
        if wrapped is None:
            return None
        key = await self._root.unwrap(wrapped, self._tenant_context(tenant, epoch))
        self._remember(name, key)
        return key

    def _tenant_context(self, tenant: str, epoch: int) -> bytes:
        return encode_context("tenant-key", self._part, tenant, epoch)

    def _data_context(self, tenant: str, kind: str, object_id: str) -> bytes:
        return encode_context("data-key", self._part, tenant, kind, object_id)

    def _data_name(self, kind: str, object_id: str) -> str:
        return f"{kind}:{object_id}"

    def _recall(self, name: str) -> bytes | None:
        found = self._cache.get(name)
        if found is None:
            return None
        if found[0] < time.monotonic():
            del self._cache[name]
            return None
        self._cache.move_to_end(name)
        return found[1]

    def _remember(self, name: str, key: bytes) -> None:
        self._cache[name] = (time.monotonic() + _CACHE_SECONDS, key)
        self._cache.move_to_end(name)
        while len(self._cache) > _CACHE_KEYS:
            self._cache.popitem(last=False)
