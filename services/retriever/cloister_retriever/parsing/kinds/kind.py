"""What the parser has to know of a kind of file."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol, TypeVar

from cloister_retriever.parsing.album import NO_PICTURES, Album
from cloister_retriever.parsing.decoding import unmarked, wide_marked
from cloister_retriever.parsing.document import Document
from cloister_retriever.parsing.ocr import Eyes
from cloister_retriever.parsing.packages import package_of

__all__ = ["Kind", "Look", "ReadsWithin", "Source"]

_HEAD_BYTES = 64 * 1024
_Part = TypeVar("_Part")


class ReadsWithin(Protocol):
    """Reads a file within another."""

    def __call__(self, content: bytes, name: str, description: str | None = None, /) -> Document:
        """Raises `UnreadableFile`. ``description`` is of a picture."""


class Source(NamedTuple):
    """A file, and how much text may come out of it."""

    content: bytes
    name: str
    max_text_bytes: int
    """In UTF-8. A parser stops early where it can; whoever called it looks at what came out."""

    languages: Sequence[str] = ()
    """Those that are expected, by ISO 639's two letters."""

    is_word: Callable[[str], bool] = str.isalpha
    """Whether the embedding model knows this as one word: for words that are cut at a line's end."""

    read: ReadsWithin | None = None
    """Reads a file within this one. None where this file is too deep within others."""

    album: Album = Album(NO_PICTURES)
    """Takes the pictures. It is one for an upload, whatever is within it."""

    eyes: Eyes = Eyes(0.0)
    """Read text in pictures, where that is installed. They are one for an upload, as the album is."""

    description: str | None = None
    """What whoever uploaded a picture says that it shows."""

    on_page: Callable[[int, int], None] = lambda done, total: None
    """Is told how many pages have been read, and of how many."""

    def counted(self, parts: Sequence[_Part]) -> Iterator[_Part]:
        """The slides, sheets, chapters, mails or files that a file consists of, one by one: each counts as a page."""
        for done, part in enumerate(parts):
            self.on_page(done, len(parts))
            yield part
        self.on_page(len(parts), len(parts))


class Look:
    """A file as it is looked at to tell its kind. All of it takes time that grows with the file's length at most."""

    def __init__(self, content: bytes, name: str) -> None:
        self.content = content
        self.name = name.lower()

    @cached_property
    def head(self) -> bytes:
        """The beginning as ASCII and more, behind the byte order mark, whatever the encoding."""
        return unmarked(wide_marked(self.content[:_HEAD_BYTES]))

    @cached_property
    def is_binary(self) -> bool:
        """Whether the beginning has control characters, which no text has."""
        return any(byte < 32 and byte not in b"\t\n\r\f\x0b\x1b" for byte in self.head[:1024])

    @cached_property
    def package(self) -> str | None:
        """What a ZIP or OLE container holds: see `cloister_retriever.parsing.packages`."""
        return package_of(self.content)


def _nothing(_look: Look) -> bool:
    return False


class Kind(NamedTuple):
    """One kind of file, or a few that are read in the same way."""

    name: str
    called: tuple[str, ...]
    """What it is called in the sentence that says what is read."""

    parse: Callable[[Source], Document]
    """The text and its parts. Raises `UnreadableFile` for what is broken, or over a limit."""

    claims: Callable[[Look], bool] = _nothing
    """Whether a file is of this kind. It looks at whatever was uploaded, so its time must grow with the file's length
    and no faster. Text claims nothing: it is what nothing else is."""
