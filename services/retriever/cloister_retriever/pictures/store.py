"""Pictures at rest: one sealed object each, beside the text of the file that they come from.

An object is a line of JSON, which says what kind of file it is, and the file. It hangs on the keys of the store and of
the file, and is bound to tenant, store, file, attachment and its number, so one that was swapped does not open.
"""

import asyncio
import json
from typing import NamedTuple

from cloister_common.vault import Keyring, VaultError, encode_context, open_record, seal

from cloister_retriever.index.passages import PassageOwner
from cloister_retriever.keys import PassageKeys
from cloister_retriever.storage.layout import tenant_paths
from cloister_retriever.storage.objects import Objects

__all__ = ["PictureStore", "StoredPicture"]


class StoredPicture(NamedTuple):
    """A picture as it is served."""

    media_type: str
    content: bytes


class PictureStore:
    """The pictures of all tenants."""

    def __init__(self, objects: Objects, keyring: Keyring) -> None:
        self._objects = objects
        self._keyring = keyring

    async def write(self, keys: PassageKeys, owner: PassageOwner, number: int, picture: StoredPicture) -> int:
        """Keeps a picture under its number; says how many bytes that takes."""
        head = json.dumps({"media_type": picture.media_type}).encode() + b"\n"
        sealed = await asyncio.to_thread(seal, keys.texts, head + picture.content, _context(owner, number))
        await self._objects.put(await self._path(owner, number), sealed)
        return len(sealed)

    async def read(self, keys: PassageKeys, owner: PassageOwner, number: int) -> StoredPicture | None:
        """A picture, or None if there is none of this number.

        Raises:
            VaultError: It does not open.
        """
        sealed = await self._objects.get(await self._path(owner, number))
        if sealed is None:
            return None
        plain = await asyncio.to_thread(open_record, keys.texts, sealed, _context(owner, number))
        head, end, content = plain.partition(b"\n")
        if not end:
            raise VaultError
        return StoredPicture(str(json.loads(head)["media_type"]), content)

    async def keep_first(self, owner: PassageOwner, count: int) -> None:
        """Removes what an earlier run of another version of this program had beyond so many."""
        paths = await tenant_paths(self._keyring, owner.tenant)
        for listed in await self._objects.list(paths.pictures_of(owner.store_id, owner.attachment_id)):
            if int(listed.leaf) >= count:
                await self._objects.delete(listed.path)

    async def _path(self, owner: PassageOwner, number: int) -> str:
        return (await tenant_paths(self._keyring, owner.tenant)).picture(owner.store_id, owner.attachment_id, number)


def _context(owner: PassageOwner, number: int) -> bytes:
    return encode_context("picture", owner.tenant, owner.store_id, owner.file_id, owner.attachment_id, number)
