"""What whoever ingests files may know and decide of their attachments."""

import time
from collections.abc import AsyncIterator
from typing import NamedTuple

from cloister_common.errors import Conflict
from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, VaultError

from cloister_retriever.keys import PassageKeys
from cloister_retriever.storage.uses import FileUses
from cloister_retriever.vector_stores.records import AttachmentRecord, ErrorCode, Outcome
from cloister_retriever.vector_stores.store import VectorStoreStore

__all__ = ["Ingestion", "IngestionService"]

log = get_logger(__name__)


class Ingestion(NamedTuple):
    """One attachment on its way, with the key of its store."""

    tenant: str
    attachment: AttachmentRecord
    key: DataKey

    @property
    def store_id(self) -> str:
        return self.attachment.store_id

    @property
    def file_id(self) -> str:
        return self.attachment.file_id


class IngestionService:
    """Ingestions of all tenants. Of several that do the same one, the first to end it has ended it."""

    def __init__(self, store: VectorStoreStore, uses: FileUses, *, sealed_passages: int) -> None:
        self._store = store
        self._sealed_passages = sealed_passages
        self._uses = uses

    async def find(self, tenant: str, store_id: str, file_id: str, attachment_id: str | None) -> Ingestion | None:
        """The ingestion of an attachment, unless that is gone or was replaced by a later one."""
        key = await self._store.key(tenant, store_id)
        if key is None:
            return None
        try:
            attachment = await self._store.attachment(tenant, store_id, file_id, key)
        except VaultError:
            # The list of the store says so. What was begun for it is cleared away.
            log.error("stored_data_damaged", what="attachment", id=attachment_id)
            return None
        if attachment is None or attachment.id != attachment_id:
            return None
        return Ingestion(tenant, attachment, key)

    async def is_current(self, tenant: str, store_id: str, file_id: str, attachment_id: str) -> bool | None:
        """Whether the file's attachment is still this one; None if the store is gone."""
        key = await self._store.key(tenant, store_id)
        if key is None:
            return None
        current = await self._store.attached(tenant, store_id, file_id, key)
        return current is not None and current.record.id == attachment_id

    async def outcome(self, ingestion: Ingestion) -> Outcome | None:
        """How it ended, if it has."""
        return await self._store.outcome(ingestion.tenant, ingestion.store_id, ingestion.attachment.id, ingestion.key)

    def check_room(self) -> None:
        """Raises `Unavailable` while what comes of it could not be stored."""
        self._store.check_room()

    async def check_place(self, ingestion: Ingestion, passages: int) -> None:
        """Refuses more than a sealed vector store may hold. Files that are read at the same time do not see each other.

        Raises:
            Conflict: The file has more passages than there is place for.
        """
        if ingestion.attachment.protection != "sealed":
            return
        files = await self._store.attached_files(ingestion.tenant, ingestion.store_id, ingestion.key)
        held = sum(file.outcome.passages for file in files if file.outcome is not None)
        if held + passages > self._sealed_passages:
            raise Conflict(
                f"The file has {passages} passages, and this vector store {held}. One whose protection is 'sealed' "
                f"holds {self._sealed_passages} at most. Remove files from it, or attach this one to a vector store "
                "that was made with the protection 'standard'."
            )

    async def write_text(self, ingestion: Ingestion, text: bytes, keys: PassageKeys) -> None:
        """Keeps the extracted text, in UTF-8."""
        await self._store.write_text(
            ingestion.tenant, ingestion.attachment, _once(text), keys.texts, max_bytes=len(text)
        )

    async def complete(self, ingestion: Ingestion, *, passages: int, usage_bytes: int, text_bytes: int) -> bool:
        """The file is searchable; says whether this call ended it."""
        await self._store.note_grown(ingestion.tenant, ingestion.store_id, ingestion.key)
        outcome = Outcome(
            attachment_id=ingestion.attachment.id,
            status="completed",
            passages=passages,
            usage_bytes=usage_bytes,
            text_bytes=text_bytes,
            finished_at=int(time.time()),
        )
        return await self._store.decide(ingestion.tenant, ingestion.attachment, outcome, ingestion.key)

    async def fail(self, ingestion: Ingestion, code: ErrorCode, message: str) -> bool:
        """The file cannot be searched; says whether this call ended it."""
        outcome = Outcome(
            attachment_id=ingestion.attachment.id,
            status="failed",
            code=code,
            message=message,
            finished_at=int(time.time()),
        )
        return await self._store.decide(ingestion.tenant, ingestion.attachment, outcome, ingestion.key)

    async def remove(self, ingestion: Ingestion) -> None:
        """Takes the file out of its store."""
        await self._uses.forget(ingestion.tenant, ingestion.file_id, ingestion.store_id)
        await self._store.delete_attachment(ingestion.tenant, ingestion.attachment)

    async def clear(self, tenant: str, store_id: str, attachment_id: str) -> None:
        """Removes what the ingestion of an attachment left that is none any more."""
        await self._store.delete_ingested(tenant, store_id, attachment_id)

    async def remove_store(self, tenant: str, store_id: str) -> None:
        """Removes what is left of a vector store that was deleted."""
        await self._store.delete(tenant, store_id)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
