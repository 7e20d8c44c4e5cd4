"""The kind of a file, by its content; its name only tells Markdown and CSV from other text."""

import re

from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind
from cloister_retriever.parsing.kinds.table import KINDS
from cloister_retriever.parsing.kinds.text import TEXT

__all__ = ["detect"]

_UNREAD: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "an Office document or ZIP archive"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"(\xb5/\xfd", "a Zstandard archive"),
    (b"{\\rtf", "an RTF document"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"RIFF", "an image, sound or video"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"%!PS", "a PostScript document"),
)
_HTML_STARTS = (b"<!doctype html", b"<html>", b"<html ", b"<html\t", b"<html\r", b"<html\n")
_HTML_WITHIN = 4096
"""HTML that begins with more comments and blanks than this is read as the text it also is."""


def detect(content: bytes, name: str) -> Kind:
    """The kind that claims the file; where none does, and it is nothing else that we know, text.

    Raises:
        UnreadableFile: It is something we do not read, or nothing at all.
    """
    if not content.strip(b"\x00 \t\r\n\x0b\x0c"):
        raise UnreadableFile("invalid_file", "The file is empty.")
    found = next((kind for kind in KINDS if kind.claims(content, name)), None)
    if found is not None:
        return found
    what = _unread(content, name)
    if what is not None:
        raise UnreadableFile("unsupported_file", f"The file is {what}, which cannot be read yet.")
    return TEXT


def _unread(content: bytes, name: str) -> str | None:
    """What the file is that we know and do not read."""
    for magic, what in _UNREAD:
        # A text may begin with "MZ" or "BZh"; a program or archive has zero bytes near its beginning.
        if content.startswith(magic) and (len(magic) > 3 or not _looks_like_text(content[:512])):
            return what
    if _is_html(content[:_HTML_WITHIN]):
        return "an HTML page"
    if re.search(r"\.(csv|tsv)\Z", name, re.IGNORECASE):
        return "a table (CSV)"
    return None


def _is_html(start: bytes) -> bool:
    """Whether a page begins here, behind any number of comments. Each step goes forward: nothing is looked at twice."""
    at = 0
    while True:
        rest = start[at:].lstrip()
        if not rest.startswith(b"<!--"):
            return rest[:16].lower().startswith(_HTML_STARTS)
        end = start.find(b"-->", len(start) - len(rest) + len(b"<!--"))
        if end < 0:
            return False
        at = end + len(b"-->")


def _looks_like_text(start: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n\x0c" for byte in start)
