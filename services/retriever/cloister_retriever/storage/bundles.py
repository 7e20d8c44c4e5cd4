"""Bundles: what many small objects of one place hold, in one object, so that a place of thousands opens in a few reads.

A bundle is a copy and never the truth: whoever reads one uses of it what is there still, as it was, and reads all else
by itself. Each is sealed under a key of its own that hangs on the vector store's too, and says in the clear which
attachments it has anything of. Whoever removes anything of an attachment destroys the keys of all bundles that have it,
so nothing that was deleted can be read out of one, and neither out of one that a backup brings back. The rest of it is
put into another bundle later.

A writer names the attachments first, makes the key, and only then looks whether all is still there; whoever removes
something does that first, and then looks for bundles. So of two who meet one always sees the other. A writer that was
only slow writes what nobody can open.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from typing import Literal, NamedTuple

from cloister_common.vault import DataKey, Keyring, encode_context, open_record, seal
from cloister_common.vault.record import derive

from cloister_retriever.identifiers import new_placed_id, place_in
from cloister_retriever.keys import BUNDLE
from cloister_retriever.storage.layout import TenantPaths, tenant_paths
from cloister_retriever.storage.objects import Objects, each

__all__ = ["Bundles", "Kind"]

Kind = Literal["packs", "words"]
"""What it has copies of."""

_PREFIX = "bdl_"
_UNFINISHED_NS = 600 * 10**9
"""A bundle that is not written so long after it was begun belonged to a process that died."""

_KNOWN = 1000
_WHOLE = {"members", "data"}


class _Name(NamedTuple):
    kind: Kind
    id: str


class Bundles:
    """The bundles of all tenants. ``place`` is the name of a store's edition (`cloister_retriever.editions`).

    Args:
        objects: The object store.
        keyring: Of the retriever.
    """

    def __init__(self, objects: Objects, keyring: Keyring) -> None:
        self._objects = objects
        self._keyring = keyring
        self._members: OrderedDict[str, frozenset[str]] = OrderedDict()
        """Of bundles, by id. They never change."""

    async def list(self, tenant: str, place: str, kind: Kind) -> list[str]:
        """The ids of the bundles that are there, oldest first."""
        paths = await tenant_paths(self._keyring, tenant)
        there = await self._there(paths, place)
        return [name.id for name, parts in there.items() if name.kind == kind and parts >= _WHOLE]

    async def read(self, tenant: str, place: str, kind: Kind, bundle_id: str, store_key: DataKey) -> bytes | None:
        """What `write` put into a bundle; None if it is gone.

        Raises:
            VaultError: It is not that bundle of that place, or was cut or altered.
        """
        paths = await tenant_paths(self._keyring, tenant)
        data = await self._objects.get(paths.bundle(place, kind, bundle_id, "data"))
        key = None if data is None else await self._keyring.get(tenant, BUNDLE, bundle_id)
        if data is None or key is None:
            return None
        context = _context(tenant, place, kind, bundle_id)
        return await asyncio.to_thread(open_record, _sealing(store_key, key), data, context)

    async def write(
        self,
        tenant: str,
        place: str,
        kind: Kind,
        store_key: DataKey,
        content: bytes,
        *,
        of: Collection[str],
        is_current: Callable[[], Awaitable[bool]],
    ) -> str | None:
        """Writes a bundle; its id, or None if something of it is gone by now.

        Args:
            tenant: Whose it is.
            place: Of the store's edition.
            kind: What is in it.
            store_key: The store's key.
            content: What it holds.
            of: All attachments that anything in it is of.
            is_current: Whether all that is in it is still there.

        Raises:
            Unavailable: The object store does not answer, or has no room for what is not needed.
        """
        self._objects.check_room()
        name = _Name(kind, new_placed_id(_PREFIX, time.time_ns()))
        paths = await tenant_paths(self._keyring, tenant)
        await self._objects.put(paths.bundle(place, *name, "members"), "\n".join(sorted(of)).encode())
        key = await self._keyring.create(tenant, BUNDLE, name.id)
        if not await is_current():
            await self._destroy(tenant, paths, place, name)
            return None
        context = _context(tenant, place, *name)
        sealed = await asyncio.to_thread(seal, _sealing(store_key, key), content, context)
        await self._objects.put(paths.bundle(place, *name, "data"), sealed)
        return name.id

    async def drop(self, tenant: str, place: str, attachment_id: str | None = None) -> None:
        """Destroys the bundles that have anything of an attachment, or all of a place. It is called after what they
        copied was removed, and needs no key."""
        paths = await tenant_paths(self._keyring, tenant)

        async def one(name: _Name) -> None:
            if attachment_id is None or await self._may_have(paths, place, name, attachment_id):
                await self._destroy(tenant, paths, place, name)

        await each(one, await self._there(paths, place))

    async def remove(self, tenant: str, place: str, kind: Kind, bundle_ids: Collection[str]) -> None:
        """Destroys bundles that others stand for now."""
        paths = await tenant_paths(self._keyring, tenant)
        await each(lambda one: self._destroy(tenant, paths, place, _Name(kind, one)), bundle_ids)

    async def tidy(self, tenant: str, place: str) -> None:
        """Destroys what writers left that died."""
        paths = await tenant_paths(self._keyring, tenant)
        latest = time.time_ns() - _UNFINISHED_NS
        for name, parts in (await self._there(paths, place)).items():
            if not parts >= _WHOLE and (place_in(name.id) or 0) < latest:
                await self._destroy(tenant, paths, place, name)

    async def _there(self, paths: TenantPaths, place: str) -> dict[_Name, set[str]]:
        there: dict[_Name, set[str]] = {}
        for listed in await self._objects.list(paths.bundles(place)):
            kind, leaf = listed.path.rsplit("/", 2)[1:]
            bundle_id, _, part = leaf.partition("-")
            there.setdefault(_Name("words" if kind == "words" else "packs", bundle_id), set()).add(part)
        return there

    async def _may_have(self, paths: TenantPaths, place: str, name: _Name, attachment_id: str) -> bool:
        members = self._members.get(name.id)
        if members is None:
            listed = await self._objects.get(paths.bundle(place, *name, "members"))
            if listed is None:
                return True  # nothing says that it has not
            members = self._members[name.id] = frozenset(listed.decode("ascii", "replace").split("\n"))
            while len(self._members) > _KNOWN:
                self._members.popitem(last=False)
        return attachment_id in members

    async def _destroy(self, tenant: str, paths: TenantPaths, place: str, name: _Name) -> None:
        """The key first, and last what says that there is anything: whoever dies in between is followed by another."""
        await self._keyring.destroy(tenant, BUNDLE, name.id)
        await self._objects.delete(paths.bundle(place, *name, "data"))
        await self._objects.delete(paths.bundle(place, *name, "members"))


def _sealing(store_key: DataKey, key: DataKey) -> bytes:
    """Destroying either key makes the bundle unreadable."""
    return derive(store_key.subkey("bundles"), "with-bundle", key.subkey("bundles"))


def _context(tenant: str, place: str, kind: Kind, bundle_id: str) -> bytes:
    return encode_context("bundle", tenant, place, kind, bundle_id)
