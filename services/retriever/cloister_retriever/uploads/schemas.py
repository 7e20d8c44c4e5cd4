"""Uploads on the wire (OpenAI's Upload and UploadPart) and at rest."""

from typing import Annotated, Literal

from cloister_common.wire.requests import Extension, Hint, RequestModel
from openai.types import Upload
from openai.types.uploads import UploadPart
from pydantic import BaseModel, Field, StringConstraints

from cloister_retriever.audience.records import FileAccess
from cloister_retriever.audience.schemas import AccessList
from cloister_retriever.files.schemas import ExpiresAfter, FileRecord, Purpose
from cloister_retriever.identifiers import place_in
from cloister_retriever.pages import PlacedObject

__all__ = [
    "LIFETIME_SECONDS",
    "MOST_PARTS",
    "PART_BYTES",
    "CompleteUpload",
    "CreateUpload",
    "Ending",
    "UploadRecord",
    "part_wire",
]

PART_BYTES = 64 * 1024 * 1024
"""OpenAI's limit of one part."""

MOST_PARTS = 1000
"""Of one upload. OpenAI names no number; 512 MB in parts of 1 MB are half as many."""

LIFETIME_SECONDS = 3600
"""An upload that is not completed by then expires, as OpenAI's do."""

_LONGEST_NAME = 4096
"""Characters of a name as it is sent. What is kept of it is shorter."""


class CreateUpload(RequestModel):
    """``POST /v1/uploads``."""

    bytes: int = Field(ge=1)
    filename: Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST_NAME)]
    mime_type: Annotated[
        str, StringConstraints(max_length=256), Hint("What a file is, its content says: nobody is believed.")
    ]
    purpose: Annotated[str, StringConstraints(max_length=64)]
    expires_after: ExpiresAfter | None = None
    access: Annotated[AccessList | None, Extension()] = Field(
        None, description="[Who may see](api.md#who-may-see-a-file) the file, from its first moment."
    )


class CompleteUpload(RequestModel):
    """``POST /v1/uploads/{id}/complete``."""

    part_ids: list[str] = Field(min_length=1, max_length=MOST_PARTS, fail_fast=True)
    md5: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{32}$")] | None = None


class UploadRecord(PlacedObject):
    """What is kept, sealed, about an upload. It never changes; how it ended is an `Ending`.

    Attributes:
        size: Bytes of the whole file, as its sender announced them.
        expires_at: Seconds since the epoch.
        file_lives_seconds: How long the file lives that comes of it; None for ever.
        access: The list that the file gets, if one: made out to the upload, which only its owner goes on with.
    """

    name: str
    purpose: Purpose
    size: int
    expires_at: int
    file_lives_seconds: int | None
    access: FileAccess | None = None

    def wire(
        self, status: Literal["pending", "completed", "cancelled", "expired"], file: FileRecord | None = None
    ) -> Upload:
        """OpenAI's shape. There is a file once it is completed."""
        return Upload(
            id=self.id,
            bytes=self.size,
            created_at=self.created_at,
            expires_at=self.expires_at,
            filename=self.name,
            object="upload",
            purpose=self.purpose,
            status=status,
            file=None if file is None else file.wire(),
        )


class Ending(BaseModel):
    """How an upload ends: with a file made of parts, in this order, or cancelled, without one.

    Whoever ends an upload creates this first. The first of several wins, and what it says is what is done.
    """

    file_id: str | None = None
    part_ids: list[str] = []
    md5: str | None = None

    @property
    def cancelled(self) -> bool:
        return self.file_id is None


def part_wire(part_id: str, upload_id: str) -> UploadPart:
    """OpenAI's shape of a part."""
    made = place_in(part_id) or 0
    return UploadPart(id=part_id, created_at=made // 10**9, object="upload.part", upload_id=upload_id)
