"""Which vector stores use a file: noted before it is attached, so that a deletion of the file finds every one."""

from cloister_common.vault import Keyring

from cloister_retriever.storage.layout import tenant_paths
from cloister_retriever.storage.objects import Objects

__all__ = ["FileUses"]


class FileUses:
    """The notes of all tenants. A note may outlive the attachment it was made for, and never the other way round."""

    def __init__(self, objects: Objects, keyring: Keyring) -> None:
        self._objects = objects
        self._keyring = keyring

    async def note(self, tenant: str, file_id: str, store_id: str) -> None:
        """Says that the store uses the file."""
        paths = await tenant_paths(self._keyring, tenant)
        await self._objects.put(paths.use(file_id, store_id), b"")

    async def is_noted(self, tenant: str, file_id: str, store_id: str) -> bool:
        """Whether the store uses the file."""
        paths = await tenant_paths(self._keyring, tenant)
        return await self._objects.get(paths.use(file_id, store_id)) is not None

    async def forget(self, tenant: str, file_id: str, store_id: str) -> None:
        """The store does not use the file any more."""
        paths = await tenant_paths(self._keyring, tenant)
        await self._objects.delete(paths.use(file_id, store_id))

    async def stores(self, tenant: str, file_id: str) -> list[str]:
        """The vector stores that use the file."""
        paths = await tenant_paths(self._keyring, tenant)
        return [listed.leaf for listed in await self._objects.list(paths.uses(file_id))]

    async def forget_all(self, tenant: str, file_id: str) -> None:
        """The file is gone."""
        paths = await tenant_paths(self._keyring, tenant)
        await self._objects.delete_all(paths.uses(file_id))
