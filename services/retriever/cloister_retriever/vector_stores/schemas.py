"""Vector stores on the wire: what OpenAI's requests may say here."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from cloister_common.wire.requests import Extension, RequestModel
from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator
from pydantic_core import PydanticCustomError

from cloister_retriever.pages import ListQuery
from cloister_retriever.settings import Protection

__all__ = [
    "AttachFile",
    "Attributes",
    "AutoChunking",
    "ChunkingStrategy",
    "CreateBatch",
    "CreateStore",
    "ExpiresAfter",
    "FileStatus",
    "FilesInStoreQuery",
    "Metadata",
    "StaticChunking",
    "UpdateAttributes",
    "UpdateStore",
]

FileStatus = Literal["in_progress", "completed", "failed", "cancelled"]

_Key = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Text = Annotated[str, StringConstraints(max_length=512)]
_Number = Annotated[int | float, Field(allow_inf_nan=False)]
Metadata = Annotated[dict[_Key, _Text], Field(max_length=16, fail_fast=True)]
Attributes = Annotated[dict[_Key, _Text | bool | _Number], Field(max_length=16, fail_fast=True)]

MAX_FILES_A_REQUEST = 2000
"""OpenAI's limit of a file batch."""


class StaticChunkingSizes(RequestModel):
    """Tokens of the embedding model. OpenAI's limits; what the model cannot take is capped and reported."""

    max_chunk_size_tokens: int = Field(ge=100, le=4096)
    chunk_overlap_tokens: int = Field(ge=0)

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> Self:
        if self.chunk_overlap_tokens * 2 > self.max_chunk_size_tokens:
            raise ValueError("chunk_overlap_tokens must be at most half of max_chunk_size_tokens")
        return self


class StaticChunking(RequestModel):
    type: Literal["static"]
    static: StaticChunkingSizes


class AutoChunking(RequestModel):
    type: Literal["auto"]


def _kind(strategy: Any) -> str:
    kind = strategy.get("type") if isinstance(strategy, Mapping) else getattr(strategy, "type", None)
    return f"[{kind}]"


ChunkingStrategy = Annotated[
    Annotated[StaticChunking, Tag("[static]")] | Annotated[AutoChunking, Tag("[auto]")],
    # (In brackets, a kind is no part of a field's path; see `cloister_common.validation`.)
    Discriminator(_kind, custom_error_type="unsupported_type", custom_error_message="only auto, static is supported"),
]


class ExpiresAfter(RequestModel):
    anchor: Literal["last_active_at"]
    days: int = Field(ge=1, le=365)


class CreateStore(RequestModel):
    """``POST /v1/vector_stores``."""

    name: str | None = Field(None, max_length=256)
    description: str | None = Field(None, max_length=2048)
    metadata: Metadata | None = None
    file_ids: list[str] | None = Field(None, max_length=MAX_FILES_A_REQUEST, fail_fast=True)
    chunking_strategy: ChunkingStrategy | None = None
    expires_after: ExpiresAfter | None = None
    protection: Annotated[Protection | None, Extension()] = None


class UpdateStore(RequestModel):
    """``POST /v1/vector_stores/{id}``. Only the fields that were sent change; null clears."""

    name: str | None = Field(None, max_length=256)
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | None = None


class AttachFile(RequestModel):
    """``POST /v1/vector_stores/{id}/files``, and one entry of a batch's ``files``."""

    file_id: str
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class UpdateAttributes(RequestModel):
    """``POST /v1/vector_stores/{id}/files/{file_id}``."""

    attributes: Attributes | None


class CreateBatch(RequestModel):
    """``POST /v1/vector_stores/{id}/file_batches``: either ``file_ids`` with common settings, or ``files``."""

    file_ids: list[str] | None = Field(None, min_length=1, max_length=MAX_FILES_A_REQUEST, fail_fast=True)
    files: list[AttachFile] | None = Field(None, min_length=1, max_length=MAX_FILES_A_REQUEST, fail_fast=True)
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.file_ids is None) == (self.files is None):
            raise PydanticCustomError("rule_of_field", "send either that or 'files'", {"field": "file_ids"})
        if self.files is not None:
            for field in ("attributes", "chunking_strategy"):
                if getattr(self, field) is not None:
                    raise PydanticCustomError(
                        "rule_of_field", "goes with 'file_ids'; with 'files' it stands in each entry", {"field": field}
                    )
        return self

    def entries(self) -> list[AttachFile]:
        """One entry a file, in the order sent, each file once."""
        if self.files is not None:
            entries = self.files
        else:
            entries = [
                AttachFile(file_id=file_id, attributes=self.attributes, chunking_strategy=self.chunking_strategy)
                for file_id in self.file_ids or []
            ]
        return list({entry.file_id: entry for entry in entries}.values())


class FilesInStoreQuery(ListQuery):
    """The query parameters of the two lists of files in a store."""

    filter: FileStatus | None = None
