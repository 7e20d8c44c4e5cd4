"""MBOX: the mails of a mailbox, each as if it had been uploaded, in the order of the file."""

import re

from cloister_retriever.parsing.decoding import unmarked, wide_marked
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Look, Source
from cloister_retriever.parsing.letters import Enclosure, write_enclosures
from cloister_retriever.parsing.outline import Writer

__all__ = ["MAILBOX"]

_POSTMARK = re.compile(rb"(?:\A|(?<=\n)\r?\n)From [^\s]{1,320} [^\r\n]{0,80}\d{4}[^\r\n]{0,10}\r?\n")
"""The line before a mail: its sender, and when it came; as RFC 4155 has it, and with a zone behind the year. It is one
only at the beginning, or behind an empty line."""

_QUOTED = re.compile(rb"^>(>{0,20}From )", re.MULTILINE)
"""A line of a mail that begins like that."""


def _parse(source: Source) -> Document:
    writer = Writer(source.max_text_bytes)
    content = unmarked(wide_marked(source.content))
    for number, (begin, end) in enumerate(source.counted(_mails(content)), 1):
        mail = _QUOTED.sub(rb"\1", content[begin:end])
        write_enclosures(writer, source, [Enclosure(f"Mail {number}.eml", mail)], called="Mail")
    if writer.is_empty:
        reason = f" {writer.notes[0]}" if writer.notes else ""
        raise UnreadableFile("invalid_file", f"No mail of the mailbox could be read.{reason}"[:500])
    return writer.document()


def _mails(content: bytes) -> list[tuple[int, int]]:
    """Where what stands behind each postmark begins and ends."""
    marks = [mark.span() for mark in _POSTMARK.finditer(content)]
    ends = [start for start, _ in marks[1:]] + [len(content)]
    return [(begin, end) for (_, begin), end in zip(marks, ends, strict=True)]


def _claims(look: Look) -> bool:
    return not look.is_binary and _POSTMARK.match(look.head) is not None


MAILBOX = Kind("mailbox", called=("MBOX",), parse=_parse, claims=_claims)
