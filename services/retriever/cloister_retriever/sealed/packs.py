"""Packs in the object store: the one place that reads, writes, lists and removes them.

A pack's path says whose it is and which passages it has, so that what is there is known without reading it. Which
positions a pack has is no secret: an index in Milvus shows as much.
"""

from collections.abc import Iterable
from typing import NamedTuple

from cloister_common.vault import Keyring

from cloister_retriever.index.passages import PassageOwner
from cloister_retriever.storage.bundles import Bundles
from cloister_retriever.storage.layout import tenant_paths
from cloister_retriever.storage.objects import ListedObject, Objects, each
from cloister_retriever.storage.register import Register

__all__ = ["PackName", "Packs", "names_of"]


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
    def passages_of(self) -> tuple[str, str, int, int]:
        """Which passages it has: of an attachment, of a file, from a position on, how many."""
        return self[2:]

    @property
    def end(self) -> int:
        """The position behind its last passage."""
        return self.first + self.passages


class Packs:
    """The packs of all tenants.

    Attributes:
        bundles: Has copies of many, and of other things.
        register: Says which there are.
    """

    def __init__(self, objects: Objects, keyring: Keyring) -> None:
        self.bundles = Bundles(objects, keyring)
        self.register = Register(objects, keyring, "packs")
        self._objects = objects
        self._keyring = keyring

    async def list(self, tenant: str, place: str, attachment_id: str | None = None) -> list[PackName]:
        """The packs of a vector store's edition, by the name of its place, or of one attachment in it."""
        paths = await tenant_paths(self._keyring, tenant)
        folder = paths.packs(place) if attachment_id is None else paths.packs_of(place, attachment_id)
        return names_of(await self._objects.list(folder))

    async def read(self, name: PackName) -> bytes | None:
        """A pack's object, or None if it is gone by now."""
        return await self._objects.get(name.path)

    async def write(self, owner: PassageOwner, first: int, count: int, data: bytes) -> None:
        """Writes a pack, in the place of those that have any of its passages."""
        paths = await tenant_paths(self._keyring, owner.tenant)
        path = paths.pack(owner.place, owner.attachment_id, owner.file_id, first, count)
        await self._objects.put(path, data)
        there = await self.list(owner.tenant, owner.place, owner.attachment_id)
        replaced = [one for one in there if one.path != path and one.first < first + count and first < one.end]
        await each(self._objects.delete, [name.path for name in replaced])
        await self.register.note(owner.tenant, owner.place, owner.attachment_id)

    async def remove(
        self, tenant: str, place: str, attachment_id: str | None = None, *, from_position: int | None = None
    ) -> None:
        """Removes the packs of an edition, of one attachment in it, or those of it from a position on; and all copies
        of them, also where an earlier try has removed the packs."""
        there = await self.list(tenant, place, attachment_id)
        gone = [name.path for name in there if from_position is None or name.end > from_position]
        await each(self._objects.delete, gone)
        await self.bundles.drop(tenant, place, attachment_id)
        if from_position is None or attachment_id is None:
            await self.register.removed(tenant, place, attachment_id)
        elif gone or from_position == 0:
            await self.register.note(tenant, place, attachment_id)


def names_of(listed: Iterable[ListedObject]) -> list[PackName]:
    """The packs that these objects are."""
    names = []
    for one in listed:
        attachment, file_id, positions = one.path.rsplit("/", 3)[1:]
        first, _, count = positions.partition("-")
        names.append(PackName(one.path, one.e_tag, attachment, file_id, int(first), int(count)))
    return names
