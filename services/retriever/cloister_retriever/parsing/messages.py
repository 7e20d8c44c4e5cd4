"""What the service and the parser's process say to each other: a request, `READY`, and an answer, in JSON.

The process reads bytes from strangers, so the service believes nothing of the answer that has not this shape.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from cloister_retriever.parsing.chunking import Chunk

__all__ = ["MOST_MESSAGE", "MOST_REQUEST", "READY", "Answer", "Refusal", "Request"]

READY = b"ready\n"
"""What the process says once it is confined, before it reads the file."""


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


class Refusal(BaseModel):
    """Why the file cannot be read, as in `cloister_retriever.parsing.document.UnreadableFile`."""

    code: Literal["unsupported_file", "invalid_file"]
    message: str = Field(max_length=MOST_MESSAGE)


class Answer(BaseModel):
    """Why the file cannot be read, or its text and passages; and whether the process was confined."""

    confined: bool
    error: Refusal | None = None
    text: str = ""
    chunks: list[Chunk] = []
    notes: list[Annotated[str, Field(max_length=MOST_MESSAGE)]] = []
    """What of the file was not read, or may have been read wrongly."""
