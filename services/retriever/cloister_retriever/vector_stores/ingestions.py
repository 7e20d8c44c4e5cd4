"""What whoever ingests files may know and decide of their attachments."""

import time
from collections.abc import AsyncIterator
from typing import NamedTuple

from cloister_common.errors import Conflict
from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, VaultError

from cloister_retriever.editions import Edition, Place
from cloister_retriever.index.passages import PassageOwner
from cloister_retriever.keys import PassageKeys
from cloister_retriever.settings import Protection, ProtectionSettings
from cloister_retriever.storage.objects import each
from cloister_retriever.storage.uses import FileUses
from cloister_retriever.vector_stores.records import AttachmentRecord, ErrorCode, Outcome, Reading, described_as
from cloister_retriever.vector_stores.store import VectorStoreStore

__all__ = ["Ingestion", "IngestionService", "remove_store"]

log = get_logger(__name__)


class Ingestion(NamedTuple):
    """One attachment on its way, with the key of its store."""

    tenant: str
    attachment: AttachmentRecord
    key: DataKey
    edition: Edition
    """Of the store: that which is searched."""

    @property
    def store_id(self) -> str:
        return self.attachment.store_id

    @property
    def file_id(self) -> str:
        return self.attachment.file_id

    @property
    def place(self) -> Place:
        """Where its passages lie."""
        return Place(self.store_id, self.edition.number)

    @property
    def owner(self) -> PassageOwner:
        """Whose its passages are."""
        return PassageOwner(self.tenant, self.store_id, self.file_id, self.attachment.id, self.edition.number)

    @property
    def description(self) -> str | None:
        """What the file's attributes say that it shows, if it is a picture."""
        return described_as(self.attachment.attributes)


class IngestionService:
    """Ingestions of all tenants. Of several that do the same one, the first to end it has ended it."""

    def __init__(self, store: VectorStoreStore, uses: FileUses, policy: ProtectionSettings) -> None:
        self._store = store
        self._policy = policy
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
        edition = await self.edition(tenant, store_id)
        return None if edition is None else Ingestion(tenant, attachment, key, edition)

    async def edition(self, tenant: str, store_id: str) -> Edition | None:
        """That in which a store is searched now; None if the store is gone, or what is stored of it is damaged."""
        try:
            editions = await self._store.editions.get(tenant, store_id)
            if editions is not None:
                return editions.serving
            record = await self._store.get(tenant, store_id)
        except VaultError:
            log.error("stored_data_damaged", what="vector store", id=store_id)
            return None
        return None if record is None else Edition(model=record.model)

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

    async def place(self, ingestion: Ingestion, passages: int) -> Protection:
        """Which protection so many passages get: that of the attachment, unless its store outgrows it with them.

        Files that are read at the same time do not see each other: a store may come to hold a few more.

        Raises:
            Conflict: There is no place for them, and they are to be refused.
        """
        tenant, store_id, key = ingestion.tenant, ingestion.store_id, ingestion.key
        if ingestion.attachment.protection == "standard" or await self._store.has_outgrown(tenant, store_id, key):
            return "standard"
        files = await self._store.attached_files(tenant, store_id, key)
        held = sum(file.outcome.passages for file in files if file.outcome is not None)
        most = self._policy.sealed_passages
        if held + passages <= most:
            return "sealed"
        if self._policy.outgrown == "refuse":
            raise Conflict(
                f"The file has {passages} passages, and this vector store {held}. One whose protection is 'sealed' "
                f"holds {most} at most. Remove files from it, or attach this one to a vector store that was made with "
                "the protection 'standard'."
            )
        await self._store.note_outgrown(tenant, store_id, key)
        log.info("vector_store_outgrown", store=store_id, passages=held + passages)
        return "standard"

    async def removed(self, tenant: str, store_id: str, protection: Protection | None) -> Protection | None:
        """Where passages are that go, and were begun under a protection; None if they may be in both indexes.

        Of a store that is gone the jobs themselves say whether they wrote into Milvus. One that is sealed asks it for
        nothing: where there is none, its jobs would never end.
        """
        if protection != "sealed":
            return protection
        key = await self._store.key(tenant, store_id)
        return None if key is not None and await self._store.has_outgrown(tenant, store_id, key) else "sealed"

    async def write_text(self, ingestion: Ingestion, text: bytes, keys: PassageKeys) -> None:
        """Keeps the extracted text, in UTF-8."""
        await self._store.write_text(
            ingestion.tenant, ingestion.attachment, _once(text), keys.texts, max_bytes=len(text)
        )

    async def note(self, ingestion: Ingestion, reading: Reading) -> None:
        """Says how far it is."""
        await self._store.put_reading(ingestion.tenant, ingestion.attachment, reading, ingestion.key)

    async def forget_note(self, ingestion: Ingestion) -> None:
        """It has ended, or is begun anew."""
        await self._store.delete_reading(ingestion.tenant, ingestion.store_id, ingestion.attachment.id)

    async def complete(
        self,
        ingestion: Ingestion,
        *,
        pages: int | None,
        passages: int,
        usage_bytes: int,
        text_bytes: int,
        details: str | None,
    ) -> bool:
        """The file is searchable, but for what ``details`` says; says whether this call ended it."""
        await self._store.note_grown(ingestion.tenant, ingestion.store_id, ingestion.key)
        outcome = Outcome(
            attachment_id=ingestion.attachment.id,
            status="completed",
            pages=pages,
            passages=passages,
            usage_bytes=usage_bytes,
            text_bytes=text_bytes,
            details=details,
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
        await remove_store(self._store, self._uses, tenant, store_id)


async def remove_store(store: VectorStoreStore, uses: FileUses, tenant: str, store_id: str) -> None:
    """Removes all that is kept of a vector store. Done again it goes on where it was cut off."""
    # The uses first: which files it had is told from the attachments.
    await each(lambda file_id: uses.forget(tenant, file_id, store_id), await store.attached_ids(tenant, store_id))
    await store.delete(tenant, store_id)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
