"""A mail as a document, whatever wrote it: its subject, from whom, to whom and when, its words, what came with it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.kinds.kind import Source
from cloister_retriever.parsing.outline import Writer

__all__ = ["Enclosure", "begin_letter", "write_enclosures"]


class Enclosure(NamedTuple):
    """A file within another."""

    name: str
    content: bytes
    description: str | None = None
    """Of a picture, if there is one beside it."""


def begin_letter(writer: Writer, subject: str, fields: Iterable[tuple[str, str]]) -> None:
    """The head of a mail."""
    writer.heading(1, subject)
    for name, value in fields:
        if value.strip():
            writer.line(f"{name}: {' '.join(value.split())}")


def write_enclosures(writer: Writer, source: Source, enclosures: Sequence[Enclosure], *, called: str) -> None:
    """Files within ``source``, each under its name. One that cannot be read is noted, and the others are."""
    for number, enclosure in enumerate(enclosures, 1):
        name = enclosure.name or f"{called} {number}"
        if source.read is None:
            writer.note("Files within files within files are not read so deep.")
            return
        try:
            document = source.read(enclosure.content, name, enclosure.description)
        except UnreadableFile as error:
            writer.note(f"{name} was not read: {error.message}")
            continue
        writer.page(None)
        writer.heading(1, name)
        for sentence in document.notes:
            writer.note(f"{name}: {sentence}")
        document.notes.clear()
        writer.add(document, level=1)
