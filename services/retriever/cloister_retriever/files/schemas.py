"""Files on the wire (OpenAI's FileObject) and at rest (`FileRecord`)."""

from typing import Literal, get_args

from cloister_common.errors import InvalidRequest, UnsupportedParameter
from openai.types import FileObject
from pydantic import BaseModel, ConfigDict, Field

from cloister_retriever.damage import sentence
from cloister_retriever.identifiers import place_in
from cloister_retriever.pages import Order, PlacedObject

__all__ = ["PURPOSES", "FileRecord", "FilesQuery", "Purpose", "check_purpose"]

Purpose = Literal["assistants", "user_data", "batch", "vision"]
PURPOSES: tuple[str, ...] = get_args(Purpose)
"""What files are for here."""

_REFUSED_PURPOSES = ("fine-tune", "fine-tune-results", "evals", "assistants_output", "batch_output")


class FileRecord(PlacedObject):
    """What is kept, sealed, about a file. Written once, when the whole content is stored; made when that began."""

    name: str
    purpose: Purpose
    size: int
    sha256: str
    damage: str | None = Field(None, exclude=True)
    """Never stored: what is wrong with what is stored of the file."""

    @classmethod
    def lost(cls, file_id: str) -> "FileRecord":
        """What stands for a file whose record does not open: its id, and the time that is in it."""
        place = place_in(file_id) or 0
        return cls(
            id=file_id,
            name="",
            purpose="assistants",
            size=0,
            sha256="",
            created_at=place // 10**9,
            created_ns=place,
            damage=sentence("file", file_id),
        )

    def wire(self) -> FileObject:
        """OpenAI's shape. Its deprecated ``status`` is ``error`` where what is stored is damaged, else ``processed``:
        only whole uploads become files."""
        return FileObject(
            id=self.id,
            bytes=self.size,
            created_at=self.created_at,
            filename=self.name,
            object="file",
            purpose=self.purpose,
            status="processed" if self.damage is None else "error",
            status_details=self.damage,
        )


class FilesQuery(BaseModel):
    """The query parameters of ``GET /v1/files``."""

    model_config = ConfigDict(extra="forbid")

    after: str | None = None
    limit: int = Field(10_000, ge=1, le=10_000)
    order: Order = "desc"
    purpose: str | None = None


def check_purpose(value: str | None) -> Purpose:
    """The purpose of an upload.

    Raises:
        InvalidRequest: Missing or unknown.
        UnsupportedParameter: One of OpenAI's that we do not serve.
    """
    if value is None:
        raise InvalidRequest(
            "Missing required parameter: 'purpose'.", param="purpose", code="missing_required_parameter"
        )
    if value in _REFUSED_PURPOSES:
        raise UnsupportedParameter(
            "purpose", f"Unsupported value for 'purpose': '{value}'. Use one of: {', '.join(PURPOSES)}."
        )
    for known in get_args(Purpose):
        if value == known:
            return known  # type: ignore[no-any-return]  # get_args is typed as a tuple of Any
    raise InvalidRequest(f"Invalid value for 'purpose'. Use one of: {', '.join(PURPOSES)}.", param="purpose")
