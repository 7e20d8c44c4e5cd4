"""What the parser has to know of a kind of file."""

from collections.abc import Callable
from typing import NamedTuple

from cloister_retriever.parsing.document import Document

__all__ = ["Kind", "Source"]


class Source(NamedTuple):
    """An uploaded file, and how much text may come out of it."""

    content: bytes
    name: str
    max_text_bytes: int
    """In UTF-8. A parser stops early where it can; whoever called it looks at what came out."""


def _nothing(_content: bytes, _name: str) -> bool:
    return False


class Kind(NamedTuple):
    """One kind of file, or a few that are read in the same way."""

    name: str
    called: tuple[str, ...]
    """What it is called in the sentence that says what is read."""

    parse: Callable[[Source], Document]
    """The text and its parts. Raises `UnreadableFile` for what is broken, or over a limit."""

    claims: Callable[[bytes, str], bool] = _nothing
    """Whether content and name are of this kind. It looks at whatever was uploaded, so its time must grow with the
    file's length and no faster. Text claims nothing: it is what nothing else is."""
