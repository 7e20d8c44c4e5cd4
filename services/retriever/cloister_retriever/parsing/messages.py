"""What the service and the parser's process say to each other: a request, `READY`, and an answer, in JSON.

Before the answer may stand lines that say how many pages have been read, and of how many.

The process reads bytes from strangers, so the service believes nothing of the answer that has not this shape.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from cloister_common.wire.images import ReadImage
from pydantic import Base64Bytes, BaseModel, Field

from cloister_retriever.parsing.album import NO_PICTURES, PictureLimits
from cloister_retriever.parsing.around import FoundBy
from cloister_retriever.parsing.chunking import Chunk

__all__ = [
    "MOST_MESSAGE",
    "MOST_REQUEST",
    "PAGES_READ",
    "READY",
    "Answer",
    "PictureLimits",
    "ReadPicture",
    "Refusal",
    "Request",
]

READY = b"ready\n"
"""What the process says once it is confined, before it reads the file."""


PAGES_READ = re.compile(rb"page (\d{1,6}) (\d{1,6})\n")


MOST_MESSAGE = 800
"""Characters of a sentence for whoever uploaded the file."""


MOST_REQUEST = 64 * 1024
"""Bytes of a request: a name, a path and a few numbers."""


class Request(BaseModel):
    """How a file is to be read, and what that may cost."""

    name: str
    tokenizer_path: Path
    max_tokens: int
    overlap_tokens: int
    prompt_tokens: int = 0
    memory_bytes: int
    cpu_seconds: int
    max_text_bytes: int
    languages: list[str] = []
    image_edge: int | None = None
    """If it is an image that a model is to be given, how long a side of it may be, in pixels."""
    pictures: PictureLimits = NO_PICTURES
    by_sight: bool = False
    """Whether pictures are found without any words."""

    ocr_seconds: float = 0.0
    """Of the processor, for text in pictures, where something is installed that reads it."""

    description: str | None = Field(None, max_length=2_000)
    """Of the file, where it is a picture: what whoever attached it says that it shows."""


class Refusal(BaseModel):
    """Why the file cannot be read, as in `cloister_retriever.parsing.document.UnreadableFile`."""

    code: Literal["unsupported_file", "invalid_file"]
    message: str = Field(max_length=MOST_MESSAGE)


class ReadPicture(BaseModel):
    """A picture of the file, drawn anew."""

    media_type: Literal["image/png", "image/jpeg"]
    width: int
    height: int
    page: int | None = None
    by: FoundBy | None = None
    """What the words are that stand for it; None where there are none."""

    content: Base64Bytes
    small: Base64Bytes


class Answer(BaseModel):
    """Why the file cannot be read, or its text and passages, or the image; and whether the process was confined."""

    confined: bool = False
    error: Refusal | None = None
    text: str = ""
    chunks: list[Chunk] = []
    pictures: list[ReadPicture] = []
    """Those with words first. A passage of ``chunks`` that has a picture is the words for it."""

    is_picture: bool = False
    """Whether the file is one picture."""

    notes: list[Annotated[str, Field(max_length=MOST_MESSAGE)]] = []
    """What of the file was not read, or may have been read wrongly."""

    image: ReadImage | None = None
