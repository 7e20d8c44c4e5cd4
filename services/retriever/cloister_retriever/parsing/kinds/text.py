"""Plain text, and whatever is plain text: source code, JSON, XML, logs. A line that begins with ``#`` is a line."""

import json
import re

from cloister_retriever.parsing.decoding import Decoded, clean, decode
from cloister_retriever.parsing.document import Document, Segment, UnreadableFile, too_long
from cloister_retriever.parsing.kinds.kind import Kind, Source

__all__ = ["TEXT", "read_text"]

_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|.)", re.DOTALL)
_WIDEST = 4
"""Bytes a character has in UTF-32, the widest encoding."""


def read_text(source: Source) -> Decoded:
    """The text of a file that is nothing but text, cleaned.

    Raises:
        UnreadableFile: It is not text in any encoding we know, or there is none, or too much.
    """
    if len(source.content) > _WIDEST * source.max_text_bytes:
        raise too_long(source.max_text_bytes)
    decoded = decode(source.content, languages=source.languages)
    text = clean(_spelled_out(decoded.text))
    if not text.strip():
        raise UnreadableFile("invalid_file", "The file has no text.")
    return Decoded(text, decoded.note)


def _spelled_out(text: str) -> str:
    """JSON with its letters in place of their numbers: many programs write ``\\u00fc`` for a letter beyond ASCII."""
    if "\\u" not in text or text.lstrip()[:1] not in {"{", "["} or not _is_json(text):
        return text
    spelled = _ESCAPE.sub(_letter, text)
    # A letter beyond 16 bits is two of them.
    return spelled.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _letter(escape: re.Match[str]) -> str:
    letter = chr(int(escape[1], 16)) if escape[1] else ""
    return letter if letter > "\x7f" else escape[0]


def _is_json(text: str) -> bool:
    """Whether it is, or begins with, a value: a file may have one on each line. What needs too much memory is none."""
    try:
        json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError, MemoryError):
        return False
    return True


def _parse(source: Source) -> Document:
    text, note = read_text(source)
    return Document(text, segments=[Segment(0, len(text))], notes=[] if note is None else [note])


TEXT = Kind("text", called=("plain text", "source code", "JSON"), parse=_parse)
