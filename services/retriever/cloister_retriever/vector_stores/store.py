"""Vector stores at rest: records, attachments, outcomes, batches and extracted texts in the object store."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, Keyring, VaultError, encode_context
from pydantic import BaseModel

from cloister_retriever.editions import Edition, Place
from cloister_retriever.identifiers import STORE_PREFIX
from cloister_retriever.keys import VECTOR_STORE
from cloister_retriever.storage.bundles import Bundles
from cloister_retriever.storage.content import ContentFacts, SealedContent
from cloister_retriever.storage.editions import EditionLog
from cloister_retriever.storage.layout import TenantPaths, tenant_paths
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import RecordKind, SealedRecords
from cloister_retriever.storage.register import Register
from cloister_retriever.timeline import Timeline
from cloister_retriever.vector_stores.records import (
    Attached,
    AttachmentRecord,
    BatchRecord,
    Detached,
    Moment,
    Outcome,
    Reading,
    StoreRecord,
)

__all__ = ["VectorStoreStore"]

log = get_logger(__name__)
R = TypeVar("R", bound=BaseModel)


class VectorStoreStore:
    """Reads and writes one tenant's vector stores. Methods that need a store's key expect the store to exist."""

    def __init__(self, objects: Objects, keyring: Keyring, records: SealedRecords, editions: EditionLog) -> None:
        self.editions = editions
        self._objects = objects
        self._keyring = keyring
        self._records = records
        self._content = SealedContent(objects)
        self._bundles = Bundles(objects, keyring)
        self._register = Register(objects, keyring, "words")
        self._cleared: dict[str, int] = {}

    def check_room(self) -> None:
        """Raises `Unavailable` while the object store may take nothing new in."""
        self._objects.check_room()

    async def key(self, tenant: str, store_id: str) -> DataKey | None:
        return await self._keyring.get(tenant, VECTOR_STORE, store_id)

    # The store itself

    async def create(self, tenant: str, record: StoreRecord) -> None:
        key = await self._keyring.create(tenant, VECTOR_STORE, record.id)
        await self._records.put((await self._paths(tenant)).store(record.id), record, key)

    async def put(self, tenant: str, record: StoreRecord, key: DataKey) -> None:
        await self._records.put((await self._paths(tenant)).store(record.id), record, key)

    async def get(self, tenant: str, store_id: str) -> StoreRecord | None:
        path = (await self._paths(tenant)).store(store_id)
        return await self._records.find(path, StoreRecord, lambda: self.key(tenant, store_id))

    async def timeline(self, tenant: str) -> Timeline[StoreRecord]:
        """The list of the tenant's vector stores."""

        async def key_of(store_id: str) -> DataKey | None:
            return await self.key(tenant, store_id)

        paths = await self._paths(tenant)
        kind = RecordKind(StoreRecord, key_of, StoreRecord.lost)
        return Timeline(self._objects, self._records, paths.stores, STORE_PREFIX, kind)

    async def is_there(self, tenant: str, store_id: str) -> bool:
        """Whether there is a record, whether or not it opens."""
        return await self._objects.size((await self._paths(tenant)).store(store_id)) is not None

    async def hide(self, tenant: str, store_id: str) -> None:
        """Removes the record, then the key: from here on the store is gone for every reader."""
        await self._records.delete((await self._paths(tenant)).store(store_id))
        await self._keyring.destroy(tenant, VECTOR_STORE, store_id)

    async def delete(self, tenant: str, store_id: str) -> None:
        """Removes everything of the store: as `hide`, then what the key sealed."""
        await self.hide(tenant, store_id)
        paths = await self._paths(tenant)
        for path in (paths.activity(store_id), paths.changes(store_id), paths.outgrown(store_id)):
            await self._records.delete(path)
        folders = (paths.attachments, paths.detached, paths.outcomes, paths.texts, paths.pictures, paths.batches)
        for folder in folders:
            await self._objects.delete_all(folder(store_id))
        await self._objects.delete_all(paths.readings(store_id))
        for edition in await self.editions.all(tenant, store_id):
            await self.delete_words(tenant, store_id, edition)

    async def delete_words(self, tenant: str, store_id: str, edition: Edition) -> None:
        """Removes all words of an edition of the store."""
        place = Place(store_id, edition.number).name
        await self._objects.delete_all((await self._paths(tenant)).words(place))
        await self._register.removed(tenant, place)
        await self._bundles.drop(tenant, place)

    # When it was last used and last grew

    async def active_at(self, tenant: str, store_id: str, key: DataKey) -> float | None:
        return await self._moment((await self._paths(tenant)).activity(store_id), key)

    async def note_active(self, tenant: str, store_id: str, key: DataKey) -> None:
        await self._records.put((await self._paths(tenant)).activity(store_id), Moment(at=time.time()), key)

    async def grown_at(self, tenant: str, store_id: str, key: DataKey) -> float | None:
        return await self._moment((await self._paths(tenant)).changes(store_id), key)

    async def note_grown(self, tenant: str, store_id: str, key: DataKey) -> None:
        await self._records.put((await self._paths(tenant)).changes(store_id), Moment(at=time.time()), key)

    async def has_outgrown(self, tenant: str, store_id: str, key: DataKey) -> bool:
        """Whether a store that was sealed has outgrown that."""
        return await self._moment((await self._paths(tenant)).outgrown(store_id), key) is not None

    async def note_outgrown(self, tenant: str, store_id: str, key: DataKey) -> None:
        """A note of its own, which no change of the store's record can undo."""
        await self._records.create((await self._paths(tenant)).outgrown(store_id), Moment(at=time.time()), key)

    async def _moment(self, path: str, key: DataKey) -> float | None:
        """The time that is kept there. One that does not open counts as this moment, which takes nothing away."""
        try:
            moment = await self._records.get(path, Moment, key)
        except VaultError:
            log.error("record_did_not_open", kind=Moment.__name__)
            return time.time()
        return None if moment is None else moment.at

    # Files in it

    async def create_attachment(self, tenant: str, record: AttachmentRecord, key: DataKey) -> bool:
        path = (await self._paths(tenant)).attachment(record.store_id, record.file_id)
        return await self._records.create(path, record, key)

    async def put_attachment(self, tenant: str, record: AttachmentRecord, key: DataKey) -> None:
        await self._records.put((await self._paths(tenant)).attachment(record.store_id, record.file_id), record, key)

    async def attachment(self, tenant: str, store_id: str, file_id: str, key: DataKey) -> AttachmentRecord | None:
        path = (await self._paths(tenant)).attachment(store_id, file_id)
        return await self._records.get(path, AttachmentRecord, key)

    async def attached(self, tenant: str, store_id: str, file_id: str, key: DataKey) -> Attached | None:
        """The file's attachment with its outcome; where that does not open, what stands for it."""
        try:
            record = await self.attachment(tenant, store_id, file_id, key)
        except VaultError:
            log.error("record_did_not_open", kind=AttachmentRecord.__name__, id=file_id)
            return Attached(record=AttachmentRecord.lost(store_id, file_id), outcome=Outcome.lost(""))
        if record is None:
            return None
        return Attached(record=record, outcome=await self.outcome(tenant, store_id, record.id, key))

    async def attached_files(self, tenant: str, store_id: str, key: DataKey) -> list[Attached]:
        """Every file of the store with its outcome."""
        # Attachments first: an ingestion that ends between the two listings may then look unfinished, never lost.
        records = await self.attachments(tenant, store_id, key)
        paths = await self._paths(tenant)
        outcomes = await self._records.list(paths.outcomes(store_id), _read_by(key, Outcome, Outcome.lost))
        return _joined(records, outcomes)

    async def attachments(self, tenant: str, store_id: str, key: DataKey) -> list[AttachmentRecord]:
        """Every file of the store. In the list they have the order of attaching, which is not in the objects' names."""
        paths = await self._paths(tenant)
        return await self._records.list(paths.attachments(store_id), _attachments(store_id, key))

    async def attached_ids(self, tenant: str, store_id: str) -> set[str]:
        """The files of the store, whether or not their records open: nothing is read."""
        paths = await self._paths(tenant)
        return {listed.leaf async for part in self._objects.between(paths.attachments(store_id)) for listed in part}

    async def some_attachments(
        self, tenant: str, store_id: str, key: DataKey, file_ids: Collection[str]
    ) -> list[AttachmentRecord]:
        """Those of the files that are in the store."""
        paths = await self._paths(tenant)
        return await self._records.some(paths.attachments(store_id), file_ids, _attachments(store_id, key))

    async def with_outcomes(
        self, tenant: str, store_id: str, key: DataKey, records: Sequence[AttachmentRecord]
    ) -> list[Attached]:
        """The attachments with their outcomes, in the same order. It is quick for such as were made at about a time."""
        paths = await self._paths(tenant)
        names = [record.id for record in records if record.id]
        kind = _read_by(key, Outcome, Outcome.lost)
        return _joined(records, await self._records.some(paths.outcomes(store_id), names, kind))

    # Where those were that are in it no more

    async def note_detached(self, tenant: str, record: AttachmentRecord, key: DataKey) -> None:
        """Keeps the place of a file that is about to be detached, so that whoever lists just now can go on there."""
        paths = await self._paths(tenant)
        hour = _hour()
        path = paths.detached_file(record.store_id, hour, record.file_id)
        await self._records.put(path, Detached(place=record.place), key)
        if self._cleared.get(record.store_id) != hour:
            for listed in await self._objects.list(paths.detached(record.store_id)):
                if int(listed.path.rsplit("/", 2)[1]) < hour - 1:
                    await self._objects.delete(listed.path)
            if len(self._cleared) > 10_000:
                self._cleared.clear()
            self._cleared[record.store_id] = hour

    async def detached_place(self, tenant: str, store_id: str, file_id: str, key: DataKey) -> int | None:
        """The place that `note_detached` kept, for an hour at least."""
        paths = await self._paths(tenant)
        for hour in (_hour(), _hour() - 1):
            found = await self._records.get(paths.detached_file(store_id, hour, file_id), Detached, key)
            if found is not None:
                return found.place
        return None

    async def delete_attachment(self, tenant: str, record: AttachmentRecord) -> None:
        """Removes the attachment and what its ingestion left."""
        paths = await self._paths(tenant)
        await self._records.delete(paths.attachment(record.store_id, record.file_id))
        if record.id:
            await self.delete_ingested(tenant, record.store_id, record.id)

    async def delete_ingested(self, tenant: str, store_id: str, attachment_id: str) -> None:
        """Removes what an ingestion left: outcome, text, words and pictures."""
        paths = await self._paths(tenant)
        await self._records.delete(paths.outcome(store_id, attachment_id))
        await self.delete_reading(tenant, store_id, attachment_id)
        await self._objects.delete(paths.text(store_id, attachment_id))
        await self._objects.delete_all(paths.pictures_of(store_id, attachment_id))
        for edition in await self.editions.all(tenant, store_id):
            place = Place(store_id, edition.number).name
            await self._objects.delete(paths.words_of(place, attachment_id))
            await self._register.removed(tenant, place, attachment_id)
            await self._bundles.drop(tenant, place, attachment_id)

    # How their ingestion ended

    async def outcome(self, tenant: str, store_id: str, attachment_id: str, key: DataKey) -> Outcome | None:
        try:
            return await self._records.get((await self._paths(tenant)).outcome(store_id, attachment_id), Outcome, key)
        except VaultError:
            log.error("record_did_not_open", kind=Outcome.__name__, id=attachment_id)
            return Outcome.lost(attachment_id)

    async def decide(self, tenant: str, record: AttachmentRecord, outcome: Outcome, key: DataKey) -> bool:
        """Ends an ingestion, unless it has ended; says whether this call did."""
        path = (await self._paths(tenant)).outcome(record.store_id, record.id)
        return await self._records.create(path, outcome, key)

    # How far it is

    async def put_reading(self, tenant: str, record: AttachmentRecord, reading: Reading, key: DataKey) -> None:
        await self._records.put((await self._paths(tenant)).reading(record.store_id, record.id), reading, key)

    async def readings(self, tenant: str, store_id: str, key: DataKey) -> dict[str, Reading]:
        """Of the files that have been worked on for a while, by attachment. One that does not open says nothing."""
        paths = await self._paths(tenant)
        found: dict[str, Reading] = {}
        for listed in await self._objects.list(paths.readings(store_id)):
            with contextlib.suppress(VaultError):
                reading = await self._records.get(listed.path, Reading, key)
                found |= {} if reading is None else {listed.leaf: reading}
        return found

    async def delete_reading(self, tenant: str, store_id: str, attachment_id: str) -> None:
        await self._records.delete((await self._paths(tenant)).reading(store_id, attachment_id))

    # Extracted texts

    async def write_text(
        self, tenant: str, record: AttachmentRecord, chunks: AsyncIterator[bytes], key: bytes, *, max_bytes: int
    ) -> ContentFacts:
        path = (await self._paths(tenant)).text(record.store_id, record.id)
        return await self._content.write(
            path, chunks, key=key, context=_text_context(tenant, record), max_bytes=max_bytes
        )

    async def read_text(self, tenant: str, record: AttachmentRecord, key: bytes, *, size: int) -> AsyncIterator[bytes]:
        path = (await self._paths(tenant)).text(record.store_id, record.id)
        async for chunk in self._content.read(path, key=key, context=_text_context(tenant, record), size=size):
            yield chunk

    # Batches

    async def put_batch(self, tenant: str, record: BatchRecord, key: DataKey) -> None:
        await self._records.put((await self._paths(tenant)).batch(record.store_id, record.id), record, key)

    async def batch(self, tenant: str, store_id: str, batch_id: str, key: DataKey) -> BatchRecord | None:
        return await self._records.get((await self._paths(tenant)).batch(store_id, batch_id), BatchRecord, key)

    async def _paths(self, tenant: str) -> TenantPaths:
        return await tenant_paths(self._keyring, tenant)


def _attachments(store_id: str, key: DataKey) -> RecordKind[AttachmentRecord]:
    return _read_by(key, AttachmentRecord, partial(AttachmentRecord.lost, store_id))


def _read_by(key: DataKey, model: type[R], lost: Callable[[str], R]) -> RecordKind[R]:
    async def key_of(_: str) -> DataKey | None:
        return key

    return RecordKind(model, key_of, lost)


def _joined(records: Sequence[AttachmentRecord], outcomes: Sequence[Outcome]) -> list[Attached]:
    # The empty id is that of an attachment that does not open.
    by_attachment = {outcome.attachment_id: outcome for outcome in outcomes} | {"": Outcome.lost("")}
    return [Attached(record=record, outcome=by_attachment.get(record.id)) for record in records]


def _hour() -> int:
    return int(time.time()) // 3600


def _text_context(tenant: str, record: AttachmentRecord) -> bytes:
    return encode_context("extracted-text", tenant, record.store_id, record.file_id, record.id)
