"""What a parser makes of a file, and what it says when it cannot."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = ["Document", "Heading", "Picture", "Segment", "UnreadableFile", "too_long"]


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

    body: int | None = None
    """Where the text behind the headings that the segment begins with begins; None if it begins with none."""

    tail: int | None = None
    """Where headings begin that nothing follows; None if it ends with none."""


class Heading(NamedTuple):
    """A heading in a text: its line is characters ``start`` to ``end``; the outermost has level 1."""

    start: int
    end: int
    level: int
    title: str


class Picture(NamedTuple):
    """A picture in a document, and where it stands. Its pixels are in the `Album` that it was given to."""

    number: int
    """In the album. A picture that is there twice has one number."""

    at: int
    """The character of the text that it stands before."""

    page: int | None = None
    described: tuple[int, int] | None = None
    """The characters that say what it shows: a caption, or the text that stands for it."""


@dataclass
class Document:
    """The extracted text and its parts. Passages never cross a segment's border."""

    text: str
    markdown: bool = False
    segments: list[Segment] = field(default_factory=list)

    headings: list[Heading] = field(default_factory=list)
    """Those that made the segments, for a document that this one becomes a part of."""

    pictures: list[Picture] = field(default_factory=list)

    is_picture: bool = False
    """Whether the file is one picture. Words for it may come later, beside it."""

    notes: list[str] = field(default_factory=list)
    """What of the file was not read, or may have been read wrongly: sentences for whoever uploaded it."""
