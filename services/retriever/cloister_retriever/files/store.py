"""Files at rest: the record and the sealed content; and what the gateway keeps until it can write one."""

from collections.abc import AsyncIterator, Collection

from cloister_common.vault import DataKey, Keyring, encode_context

from cloister_retriever.files.schemas import FileRecord
from cloister_retriever.identifiers import FILE_PREFIX
from cloister_retriever.keys import FILE
from cloister_retriever.storage.content import ContentFacts, SealedContent
from cloister_retriever.storage.layout import tenant_paths
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import RecordKind, SealedRecords
from cloister_retriever.timeline import Timeline

__all__ = ["FileStore", "ResultPartStore"]


class FileStore:
    """Reads and writes one tenant's files."""

    def __init__(self, objects: Objects, keyring: Keyring, records: SealedRecords) -> None:
        self._objects = objects
        self._keyring = keyring
        self._records = records
        self._content = SealedContent(objects)

    async def create_key(self, tenant: str, file_id: str) -> DataKey:
        return await self._keyring.create(tenant, FILE, file_id)

    async def obtain_key(self, tenant: str, file_id: str) -> DataKey:
        """The file's key, made if it is not there."""
        return await self._keyring.obtain(tenant, FILE, file_id)

    async def key(self, tenant: str, file_id: str) -> DataKey | None:
        return await self._keyring.get(tenant, FILE, file_id)

    async def write_content(
        self, tenant: str, file_id: str, key: DataKey, chunks: AsyncIterator[bytes], *, max_bytes: int
    ) -> ContentFacts:
        paths = await tenant_paths(self._keyring, tenant)
        return await self._content.write(
            paths.content(file_id),
            chunks,
            key=key.subkey("segments"),
            context=_content_context(tenant, file_id),
            max_bytes=max_bytes,
        )

    async def put(self, tenant: str, record: FileRecord, key: DataKey) -> None:
        paths = await tenant_paths(self._keyring, tenant)
        await self._records.put(paths.file(record.id), record, key)

    async def get(self, tenant: str, file_id: str) -> FileRecord | None:
        paths = await tenant_paths(self._keyring, tenant)
        # The path is the tenant's own, so another tenant's file is simply not there: no key is asked for.
        return await self._records.find(paths.file(file_id), FileRecord, lambda: self.key(tenant, file_id))

    async def timeline(self, tenant: str) -> Timeline[FileRecord]:
        """The list of the tenant's files."""

        async def key_of(file_id: str) -> DataKey | None:
            return await self.key(tenant, file_id)

        paths = await tenant_paths(self._keyring, tenant)
        kind = RecordKind(FileRecord, key_of, FileRecord.lost)
        return Timeline(self._objects, self._records, paths.files, FILE_PREFIX, kind)

    async def sizes(self, tenant: str, file_ids: Collection[str]) -> dict[str, int]:
        """What contents have where they are stored, by their file: bytes. What has none is not in it."""
        if not file_ids:
            return {}
        paths = await tenant_paths(self._keyring, tenant)
        wanted = set(file_ids)
        around = self._objects.between(paths.contents, after=min(wanted)[:-1], until=f"{max(wanted)}~")
        return {listed.leaf: listed.size async for part in around for listed in part if listed.leaf in wanted}

    async def size(self, tenant: str, file_id: str) -> int | None:
        """What one content has where it is stored, or None if there is none."""
        paths = await tenant_paths(self._keyring, tenant)
        return await self._objects.size(paths.content(file_id))

    async def read_content(
        self, tenant: str, record: FileRecord, *, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[bytes]:
        paths = await tenant_paths(self._keyring, tenant)
        key = await self.key(tenant, record.id)
        if key is None:
            return
        async for chunk in self._content.read(
            paths.content(record.id),
            key=key.subkey("segments"),
            context=_content_context(tenant, record.id),
            size=record.size,
            start=start,
            stop=stop,
        ):
            yield chunk

    async def is_there(self, tenant: str, file_id: str) -> bool:
        """Whether there is a record; without its key, since a deletion that broke off may have destroyed that."""
        paths = await tenant_paths(self._keyring, tenant)
        return await self._objects.get(paths.file(file_id)) is not None

    async def destroy_key(self, tenant: str, file_id: str) -> None:
        """From here on nothing of the file can be read, wherever copies lie."""
        await self._keyring.destroy(tenant, FILE, file_id)

    async def delete_content(self, tenant: str, file_id: str) -> None:
        paths = await tenant_paths(self._keyring, tenant)
        await self._objects.delete(paths.content(file_id))

    async def delete(self, tenant: str, file_id: str) -> None:
        """Removes the record, when nothing else is left of the file."""
        paths = await tenant_paths(self._keyring, tenant)
        await self._records.delete(paths.file(file_id))


class ResultPartStore:
    """Keeps parts of what became of batches that run. The gateway has sealed them."""

    def __init__(self, objects: Objects, keyring: Keyring) -> None:
        self._objects = objects
        self._keyring = keyring

    async def put(self, tenant: str, batch_id: str, part_id: str, content: bytes) -> None:
        paths = await tenant_paths(self._keyring, tenant)
        await self._objects.put(paths.result(batch_id, part_id), content)

    async def get(self, tenant: str, batch_id: str, part_id: str) -> bytes | None:
        paths = await tenant_paths(self._keyring, tenant)
        return await self._objects.get(paths.result(batch_id, part_id))

    async def drop(self, tenant: str, batch_id: str) -> None:
        """Removes all of a batch."""
        paths = await tenant_paths(self._keyring, tenant)
        await self._objects.delete_all(paths.results(batch_id))


def _content_context(tenant: str, file_id: str) -> bytes:
    return encode_context("file-content", tenant, file_id)
