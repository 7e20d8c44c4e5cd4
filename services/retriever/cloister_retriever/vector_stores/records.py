"""Vector stores at rest: what is kept, sealed with the store's key, and how it looks on the wire."""

import time
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from cloister_common.payer import Payer
from openai.types import (
    OtherFileChunkingStrategyObject,
    StaticFileChunkingStrategy,
    StaticFileChunkingStrategyObject,
    VectorStore,
)
from openai.types.vector_store import ExpiresAfter, FileCounts
from openai.types.vector_stores import VectorStoreFile, VectorStoreFileBatch
from openai.types.vector_stores.vector_store_file_batch import FileCounts as BatchFileCounts
from pydantic import BaseModel, Field

from cloister_retriever.damage import sentence
from cloister_retriever.identifiers import place_in
from cloister_retriever.pages import Placed, PlacedObject, Wire
from cloister_retriever.settings import Protection
from cloister_retriever.vector_stores.schemas import FileStatus

__all__ = [
    "Attached",
    "AttachmentRecord",
    "BatchMember",
    "BatchRecord",
    "Chunking",
    "Detached",
    "ErrorCode",
    "Moment",
    "Outcome",
    "Reading",
    "StoreRecord",
    "StoreView",
    "count_statuses",
    "described_as",
]

ErrorCode = Literal["server_error", "unsupported_file", "invalid_file", "rate_limit_exceeded"]
"""The last is OpenAI's too, but not of files: that of one whose project is over a limit."""

_SECONDS_A_DAY = 86_400


class Chunking(BaseModel):
    """The lengths really used, in tokens of the embedding model."""

    max_tokens: int
    overlap_tokens: int

    def wire(self) -> StaticFileChunkingStrategyObject | OtherFileChunkingStrategyObject:
        if not self.max_tokens:
            return OtherFileChunkingStrategyObject(type="other")  # of a record that does not open: not known
        return StaticFileChunkingStrategyObject(
            type="static",
            static=StaticFileChunkingStrategy(
                max_chunk_size_tokens=self.max_tokens, chunk_overlap_tokens=self.overlap_tokens
            ),
        )


class Moment(BaseModel):
    """A point in time: seconds since the epoch."""

    at: float


class Detached(BaseModel):
    """Where a file that was taken out of a store had its place in the list: nanoseconds since the epoch."""

    place: int


class StoreRecord(PlacedObject):
    """A vector store. ``model`` is the embedding model its passages were embedded with."""

    name: str
    description: str | None
    metadata: dict[str, str] | None
    expires_after_days: int | None
    model: str
    protection: Protection = "standard"
    damage: str | None = Field(None, exclude=True)
    """Never stored: what is wrong with what is stored of the store."""

    @classmethod
    def lost(cls, store_id: str) -> "StoreRecord":
        """What stands for a store whose record does not open: its id, and the time that is in it."""
        place = place_in(store_id) or 0
        return cls(
            id=store_id,
            name="",
            description=None,
            metadata={},
            created_at=place // 10**9,
            created_ns=place,
            expires_after_days=None,
            model="",
            damage=sentence("vector store", store_id),
        )

    def expires_at(self, last_active_at: int) -> int | None:
        """When the store expires, or None if it never does."""
        return None if self.expires_after_days is None else last_active_at + self.expires_after_days * _SECONDS_A_DAY


class AttachmentRecord(Placed):
    """A file in a store. ``id`` is new each time the file is attached; it names the passages of that time."""

    id: str
    store_id: str
    file_id: str
    file_name: str
    attributes: dict[str, str | bool | int | float] | None
    chunking: Chunking
    protection: Protection = "standard"
    """Which index has its passages: that of the store when it was attached."""

    payer: Payer | None = None
    """Who attached it, as far as limits and usage go."""

    @classmethod
    def lost(cls, store_id: str, file_id: str) -> "AttachmentRecord":
        """What stands for one that does not open. Its own id is not known, and so which passages are its."""
        place = place_in(file_id) or 0
        return cls(
            id="",
            store_id=store_id,
            file_id=file_id,
            file_name="",
            created_at=place // 10**9,
            created_ns=place,
            attributes={},
            chunking=Chunking(max_tokens=0, overlap_tokens=0),
        )


class Reading(BaseModel):
    """What has been read of a file so far, and embedded of it. None where that is not known: yet, or of its kind."""

    pages_done: int | None = None
    pages: int | None = None
    passages_done: int | None = None
    passages: int | None = None


class Outcome(BaseModel):
    """How an ingestion ended. Created once: of a worker that finishes and a caller that cancels, the first wins."""

    attachment_id: str
    status: Literal["completed", "failed", "cancelled"]
    code: ErrorCode | None = None
    message: str | None = None
    passages: int = 0
    pages: int | None = None
    """Of a file that has some."""

    usage_bytes: int = 0
    text_bytes: int = 0
    details: str | None = None
    """Of a completed file: what of it was not read, or may have been read wrongly."""

    finished_at: int

    @classmethod
    def lost(cls, attachment_id: str) -> "Outcome":
        """What stands for one that does not open, and for that of an attachment that does not: the file has failed."""
        message = "What is stored of this file in this vector store is damaged. Remove it from there and add it again."
        return cls(attachment_id=attachment_id, status="failed", code="server_error", message=message, finished_at=0)


class Attached(BaseModel):
    """An attachment and its outcome, if it has one yet."""

    record: AttachmentRecord
    outcome: Outcome | None

    @property
    def status(self) -> FileStatus:
        return "in_progress" if self.outcome is None else self.outcome.status

    @property
    def usage_bytes(self) -> int:
        return 0 if self.outcome is None else self.outcome.usage_bytes

    def wire(self) -> Wire:
        """OpenAI's shape."""
        file = VectorStoreFile(
            id=self.record.file_id,
            created_at=self.record.created_at,
            last_error=None,
            object="vector_store.file",
            status=self.status,
            usage_bytes=self.usage_bytes,
            vector_store_id=self.record.store_id,
            chunking_strategy=self.record.chunking.wire(),
        )
        # OpenAI's type would turn whole numbers into floats; they go back as they were sent.
        wire = {**file.model_dump(mode="json"), "attributes": self.record.attributes or {}}
        if self.outcome is not None and self.outcome.code is not None:
            wire["last_error"] = {"code": self.outcome.code, "message": self.outcome.message or ""}
        # OpenAI has no word for a file that was read in part. A file's own object calls such a sentence so.
        details = None if self.outcome is None else self.outcome.details
        return wire if details is None else {**wire, "status_details": details}


class StoreView(NamedTuple):
    """A vector store as it is now: with its files, when it was last used (seconds since the epoch), and what is said of
    it beside OpenAI's fields."""

    record: StoreRecord
    files: Sequence[Attached]
    last_active_at: int
    besides: Wire

    @property
    def id(self) -> str:
        return self.record.id

    def wire(self) -> Wire:
        """OpenAI's shape."""
        record = self.record
        expires_at = record.expires_at(self.last_active_at)
        counts = count_statuses(self.files)
        status: Literal["expired", "in_progress", "completed"] = "in_progress" if counts["in_progress"] else "completed"
        if expires_at is not None and expires_at <= time.time():
            status = "expired"
        store = VectorStore(
            id=record.id,
            created_at=record.created_at,
            file_counts=FileCounts(**counts),
            last_active_at=self.last_active_at,
            metadata=record.metadata,
            name=record.name,
            object="vector_store",
            status=status,
            usage_bytes=sum(file.usage_bytes for file in self.files),
            expires_after=None
            if record.expires_after_days is None
            else ExpiresAfter(anchor="last_active_at", days=record.expires_after_days),
            expires_at=expires_at,
        )
        ours = {"description": record.description, "protection": record.protection, **self.besides}
        wire = {**store.model_dump(mode="json"), **ours}
        if record.expires_after_days is None:
            del wire["expires_after"]  # It may be missing in OpenAI's schema, and not null.
        # OpenAI has no status for this. Its SDKs pass on what they do not know.
        return wire if record.damage is None else {**wire, "status": "error", "status_details": record.damage}


class BatchMember(BaseModel):
    """One file of a batch, as it was attached by it."""

    file_id: str
    attachment_id: str


class BatchRecord(BaseModel):
    """A file batch. Its counts come from the outcomes of its members."""

    id: str
    store_id: str
    created_at: int
    members: list[BatchMember]

    def wire(self, files: list[Attached]) -> VectorStoreFileBatch:
        """OpenAI's shape. ``files`` are the members that are still attached."""
        counts = count_statuses(files)
        status: FileStatus = "completed"
        if counts["in_progress"]:
            status = "in_progress"
        elif counts["cancelled"]:
            status = "cancelled"
        elif counts["total"] and counts["failed"] == counts["total"]:
            status = "failed"
        return VectorStoreFileBatch(
            id=self.id,
            created_at=self.created_at,
            file_counts=BatchFileCounts(**counts),
            object="vector_store.files_batch",
            status=status,
            vector_store_id=self.store_id,
        )


def described_as(attributes: Mapping[str, object] | None) -> str | None:
    """The description of a picture among a file's attributes."""
    text = (attributes or {}).get("description")
    return text if isinstance(text, str) and text.strip() else None


def count_statuses(files: Sequence[Attached]) -> dict[str, int]:
    """How many files have which status, and ``total``."""
    counts = dict.fromkeys(("in_progress", "completed", "failed", "cancelled"), 0)
    for file in files:
        counts[file.status] += 1
    return {**counts, "total": len(files)}
