"""Uploads at rest: the record, how it ended, and the sealed parts. A part is there once it is there whole."""

from collections.abc import AsyncIterator

from cloister_common.vault import DataKey, Keyring, encode_context

from cloister_retriever.keys import UPLOAD
from cloister_retriever.storage.content import SealedContent, plain_size
from cloister_retriever.storage.layout import TenantPaths, tenant_paths
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import SealedRecords
from cloister_retriever.uploads.schemas import Ending, UploadRecord

__all__ = ["UploadStore"]


class UploadStore:
    """Reads and writes one tenant's uploads. Methods that need an upload's key expect the upload to exist."""

    def __init__(self, objects: Objects, keyring: Keyring, records: SealedRecords) -> None:
        self._objects = objects
        self._keyring = keyring
        self._records = records
        self._content = SealedContent(objects)

    async def create(self, tenant: str, record: UploadRecord) -> None:
        key = await self._keyring.create(tenant, UPLOAD, record.id)
        await self._records.put((await self._paths(tenant)).upload(record.id), record, key)

    async def key(self, tenant: str, upload_id: str) -> DataKey | None:
        return await self._keyring.get(tenant, UPLOAD, upload_id)

    async def get(self, tenant: str, upload_id: str) -> UploadRecord | None:
        path = (await self._paths(tenant)).upload(upload_id)
        return await self._records.find(path, UploadRecord, lambda: self.key(tenant, upload_id))

    async def ending(self, tenant: str, upload_id: str, key: DataKey) -> Ending | None:
        """How the upload ended, if it did."""
        return await self._records.get((await self._paths(tenant)).upload_ending(upload_id), Ending, key)

    async def end(self, tenant: str, upload_id: str, ending: Ending, key: DataKey) -> bool:
        """Ends the upload, unless it has ended; says whether this call did."""
        return await self._records.create((await self._paths(tenant)).upload_ending(upload_id), ending, key)

    async def reopen(self, tenant: str, upload_id: str) -> None:
        """Takes an ending back that nothing came of."""
        await self._records.delete((await self._paths(tenant)).upload_ending(upload_id))

    async def parts(self, tenant: str, upload_id: str) -> dict[str, int]:
        """The bytes of each part."""
        listed = await self._objects.list((await self._paths(tenant)).parts(upload_id))
        return {one.leaf: plain_size(one.size) for one in listed}

    async def write_part(
        self, tenant: str, upload_id: str, part_id: str, key: DataKey, chunks: AsyncIterator[bytes], *, max_bytes: int
    ) -> None:
        """Raises `PayloadTooLarge` if more comes, and what ``chunks`` raises; then there is no part."""
        await self._content.write(
            (await self._paths(tenant)).part(upload_id, part_id),
            chunks,
            key=key.subkey("segments"),
            context=_part_context(tenant, upload_id, part_id),
            max_bytes=max_bytes,
        )

    async def read_parts(
        self, tenant: str, upload_id: str, parts: dict[str, int], key: DataKey
    ) -> AsyncIterator[bytes]:
        """The bytes of ``parts``, which have these sizes, one part after the other.

        Raises:
            VaultError: One does not open; also in the middle.
        """
        paths = await self._paths(tenant)
        for part_id, size in parts.items():
            context = _part_context(tenant, upload_id, part_id)
            path = paths.part(upload_id, part_id)
            async for chunk in self._content.read(path, key=key.subkey("segments"), context=context, size=size):
                yield chunk

    async def delete_part(self, tenant: str, upload_id: str, part_id: str) -> None:
        await self._objects.delete((await self._paths(tenant)).part(upload_id, part_id))

    async def delete_parts(self, tenant: str, upload_id: str) -> None:
        await self._objects.delete_all((await self._paths(tenant)).parts(upload_id))

    async def delete(self, tenant: str, upload_id: str) -> None:
        """Removes everything of the upload, its key first."""
        paths = await self._paths(tenant)
        await self._keyring.destroy(tenant, UPLOAD, upload_id)
        await self.delete_parts(tenant, upload_id)
        await self._records.delete(paths.upload_ending(upload_id))
        await self._records.delete(paths.upload(upload_id))

    async def _paths(self, tenant: str) -> TenantPaths:
        return await tenant_paths(self._keyring, tenant)


def _part_context(tenant: str, upload_id: str, part_id: str) -> bytes:
    return encode_context("upload-part", tenant, upload_id, part_id)
