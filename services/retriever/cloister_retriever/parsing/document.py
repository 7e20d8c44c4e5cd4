"""What a parser makes of a file, and what it says when it cannot."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = ["Document", "Segment", "UnreadableFile", "too_long"]


class UnreadableFile(Exception):
    """The file cannot become passages; ``message`` is one sentence for whoever uploaded it.

    Args:
        code: OpenAI's: ``unsupported_file`` for a type we do not read, ``invalid_file`` for one that is broken.
        message: What is wrong and what to do, never content. What we do read is added to ``unsupported_file``.
    """

    def __init__(self, code: Literal["unsupported_file", "invalid_file"], message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def too_long(max_text_bytes: int) -> UnreadableFile:
    """For a file of more text than is allowed."""
    return UnreadableFile("invalid_file", f"The file has more than {max_text_bytes} bytes of text. Split it.")


class Segment(NamedTuple):
    """Characters ``start`` to ``end`` of the text that belong together: a page, a section, or all of it."""

    start: int
    end: int
    page: int | None = None
    """1-based."""

    section: str | None = None
    """The headings above, outermost first, joined by `` > ``."""


@dataclass
class Document:
    """The extracted text and its parts. Passages never cross a segment's border."""

    text: str
    markdown: bool = False
    segments: list[Segment] = field(default_factory=list)
