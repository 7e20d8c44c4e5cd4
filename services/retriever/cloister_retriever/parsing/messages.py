"""What the service and the parser's process say to each other: a line that asks, `READY`, and an answer, in JSON.

The process reads bytes from strangers, so the service believes nothing of the answer that has not this shape.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from cloister_retriever.parsing.chunking import Chunk

__all__ = ["READY", "Answer", "Refusal", "Request"]

READY = b"ready\n"
"""What the process says once it is confined, before it reads the file."""


class Request(BaseModel):
    """How a file is to be read, and what that may cost."""

    name: str
    tokenizer_path: Path
    max_tokens: int
    overlap_tokens: int
    memory_bytes: int
    cpu_seconds: int
    max_text_bytes: int


class Refusal(BaseModel):
    """Why the file cannot be read, as in `cloister_retriever.parsing.document.UnreadableFile`."""

    code: Literal["unsupported_file", "invalid_file"]
    message: str = Field(max_length=500)


class Answer(BaseModel):
    """Why the file cannot be read, or its text and passages; and whether the process was confined."""

    confined: bool
    error: Refusal | None = None
    text: str = ""
    chunks: list[Chunk] = []
