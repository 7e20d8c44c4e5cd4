"""Plain text, and whatever is plain text: source code, JSON, XML, logs. A line that begins with ``#`` is a line."""

from cloister_retriever.parsing.decoding import Decoded, clean, decode
from cloister_retriever.parsing.document import Document, Segment, UnreadableFile, too_long
from cloister_retriever.parsing.kinds.kind import Kind, Source

__all__ = ["TEXT", "read_text"]

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
    text = clean(decoded.text)
    if not text.strip():
        raise UnreadableFile("invalid_file", "The file has no text.")
    return Decoded(text, decoded.note)


def _parse(source: Source) -> Document:
    text, note = read_text(source)
    return Document(text, segments=[Segment(0, len(text))], notes=[] if note is None else [note])


TEXT = Kind("text", called=("plain text", "source code", "JSON"), parse=_parse)
