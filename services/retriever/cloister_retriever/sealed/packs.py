"""Packs in the object store: the one place that reads, writes, lists and removes them.

A pack's path says whose it is and which passages it has, so that what is there is known without reading it. Which
positions a pack has is no secret: an index in Milvus shows as much.
"""

from collections.abc import Sequence
from typing import NamedTuple

from cloister_common.vault import Keyring

from cloister_retriever.index.passages import PassageOwner
from cloister_retriever.storage.layout import tenant_paths
from cloister_retriever.storage.objects import Objects

__all__ = ["PackName", "Packs"]


class PackName(NamedTuple):
    """A pack that is there."""

    path: str
    e_tag: str
    """Another one when the pack was written anew."""

    attachment_id: str
    file_id: str
    first: int
    passages: int

    @property
    def end(self) -> int:
        """The position behind its last passage."""
        return self.first + self.passages


class Packs:
    """The packs of all tenants."""

    def __init__(self, objects: Objects, keyring: Keyring) -> None:
        self._objects = objects
        self._keyring = keyring

    async def list(self, tenant: str, store_id: str, attachment_id: str | None = None) -> list[PackName]:
        """The packs of a vector store, or of one attachment of it."""
        paths = await tenant_paths(self._keyring, tenant)
        folder = paths.packs(store_id) if attachment_id is None else paths.packs_of(store_id, attachment_id)
        names = []
        for listed in await self._objects.list(folder):
            attachment, file_id, place = listed.path.rsplit("/", 3)[1:]
            first, _, count = place.partition("-")
            names.append(PackName(listed.path, listed.e_tag, attachment, file_id, int(first), int(count)))
        return names

    async def read(self, name: PackName) -> bytes | None:
        """A pack's object, or None if it is gone by now."""
        return await self._objects.get(name.path)

    async def write(self, owner: PassageOwner, first: int, count: int, data: bytes) -> None:
        """Writes a pack, in the place of those that have any of its passages."""
        paths = await tenant_paths(self._keyring, owner.tenant)
        path = paths.pack(owner.store_id, owner.attachment_id, owner.file_id, first, count)
        await self._objects.put(path, data)
        there = await self.list(owner.tenant, owner.store_id, owner.attachment_id)
        await self.remove([one for one in there if one.path != path and one.first < first + count and first < one.end])

    async def remove(self, names: Sequence[PackName]) -> None:
        """Removes packs."""
        for name in names:
            await self._objects.delete(name.path)
