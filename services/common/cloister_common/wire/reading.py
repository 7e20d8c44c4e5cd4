"""The text of a file for one prompt: what ``POST /internal/read`` of the retriever gives, and its bounds.

POST /internal/read?file_id=…    an uploaded file
POST /internal/read?name=…       the file is the body
"""

from pydantic import BaseModel

__all__ = ["MOST_CHARACTERS", "MOST_FILE_BYTES", "ReadFile"]

MOST_FILE_BYTES = 32 * 1024 * 1024
"""Of a file that is read while its sender waits. A megabyte of PDF takes the parser about a second."""

MOST_CHARACTERS = 1_000_000
"""As much as one text of a message may have: what fits into the model is told by tokens, and later."""


class ReadFile(BaseModel):
    """A file and its text."""

    file_id: str | None
    filename: str
    text: str
