"""Files on the wire (OpenAI's FileObject) and at rest (`FileRecord`)."""

from typing import Any, Literal, Self, get_args

from cloister_common.errors import InvalidRequest, UnsupportedParameter
from cloister_common.validation import body_error
from cloister_common.wire.requests import RequestModel
from openai.types import FileObject
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloister_retriever.damage import sentence
from cloister_retriever.identifiers import place_in
from cloister_retriever.pages import Order, PlacedObject

__all__ = [
    "BATCH_OUTPUT",
    "PURPOSES",
    "ExpiresAfter",
    "FileRecord",
    "FilesQuery",
    "Purpose",
    "check_purpose",
    "is_of_batches",
    "wire_fields",
]

Purpose = Literal["assistants", "user_data", "batch", "vision", "batch_output"]
BATCH_OUTPUT: Purpose = "batch_output"
"""What the gateway writes of a batch. Nobody uploads it."""
PURPOSES: tuple[Purpose, ...] = tuple(known for known in get_args(Purpose) if known != BATCH_OUTPUT)
"""What files are uploaded for here."""

_REFUSED_PURPOSES = ("fine-tune", "fine-tune-results", "evals", "assistants_output", BATCH_OUTPUT)


_LEAST_SECONDS = 3600
_MOST_SECONDS = 30 * 86_400
"""OpenAI's bounds on how long a file that expires may live."""


class ExpiresAfter(RequestModel):
    """When a file expires: so many seconds after it was made."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=_LEAST_SECONDS, le=_MOST_SECONDS)

    @classmethod
    def of_form(cls, fields: dict[str, str]) -> Self | None:
        """What the fields of a form say of it: ``expires_after[anchor]`` and ``expires_after[seconds]``.

        Raises:
            InvalidRequest: One of them is missing or wrong.
        """
        sent = {name[:-1].partition("[")[2]: value for name, value in fields.items() if name.startswith(_IN_A_FORM)}
        if not sent:
            return None
        seconds = sent.get("seconds", "")
        value = {**sent, "seconds": int(seconds)} if seconds.isdecimal() and len(seconds) < _LONGEST_NUMBER else sent
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            found = body_error(error)
            place = f"expires_after.{found.param}"
            message = found.message.replace(f"'{found.param}'", f"'{place}'")
            raise InvalidRequest(message, param=place, code=found.error_code) from None


_IN_A_FORM = "expires_after["
_LONGEST_NUMBER = 10


class FileRecord(PlacedObject):
    """What is kept, sealed, about a file. Written once, when the whole content is stored; made when that began."""

    name: str
    purpose: Purpose
    size: int
    sha256: str
    expires_at: int | None = None
    """Seconds since the epoch. From then on nobody sees it, and a moment later it is deleted."""

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
            expires_at=self.expires_at,
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
    for known in PURPOSES:
        if value == known:
            return known
    raise InvalidRequest(f"Invalid value for 'purpose'. Use one of: {', '.join(PURPOSES)}.", param="purpose")


def is_of_batches(record: FileRecord) -> bool:
    """Whether the file holds requests of a batch, or their answers: neither is a document."""
    return record.purpose in {"batch", BATCH_OUTPUT}


def wire_fields(record: FileRecord) -> dict[str, Any]:
    """A file's fields as they go out. Those that it does not have are missing: in OpenAI's schema none may be null."""
    return record.wire().model_dump(mode="json", exclude_none=True)
