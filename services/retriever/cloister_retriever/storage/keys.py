"""Where the retriever's wrapped keys lie: in the object store, under hashed names, and a list of those names.

A name goes into the list before its key is written, and out of it after the key is deleted. So a name may stand there
without a key. A key has none if it is a tenant's, since the object store must not show tenants, or if the version that
made it kept no list: those are found by the files and vector stores that they are for.
"""

import hashlib
from collections.abc import AsyncIterator

from cloister_retriever.storage.objects import Objects

__all__ = ["ObjectKeyStore"]

_KEYS = "keys"
_NAMES = "key-names"
_UNLISTED = "tenant:"


class ObjectKeyStore:
    """The vault's key store over the object store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def get(self, name: str) -> bytes | None:
        return await self._objects.get(_path(name))

    async def put_if_absent(self, name: str, wrapped: bytes) -> bool:
        if not name.startswith(_UNLISTED):
            await self._objects.put(_listed(name), b"")
        return await self._objects.create(_path(name), wrapped)

    async def replace(self, name: str, expected: bytes, wrapped: bytes) -> bool:
        return await self._objects.replace(_path(name), expected, wrapped)

    async def delete(self, name: str) -> None:
        await self._objects.delete(_path(name))
        if not name.startswith(_UNLISTED):
            await self._objects.delete(_listed(name))

    async def names(self, prefix: str) -> AsyncIterator[str]:
        for listed in await self._objects.list(_listed(prefix).rpartition("/")[0]):
            name = listed.path.removeprefix(f"{_NAMES}/").replace("/", ":", 1)
            if name.startswith(prefix):
                yield name


def _path(name: str) -> str:
    return f"{_KEYS}/{hashlib.sha256(name.encode()).hexdigest()}"


def _listed(name: str) -> str:
    """A folder for the kind of what the key is for, in it the id."""
    return f"{_NAMES}/{name.replace(':', '/', 1)}"
