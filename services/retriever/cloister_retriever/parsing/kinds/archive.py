"""ZIP: the files in an archive, each as if it had been uploaded, under its name."""

from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.letters import Enclosure, write_enclosures
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.packages import Package

__all__ = ["ARCHIVE"]

_CLUTTER = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")


def _parse(source: Source) -> Document:
    package = Package(source.content)
    writer = Writer(source.max_text_bytes)
    for name in package:
        if name.startswith(_CLUTTER[0]) or name.rpartition("/")[2] in _CLUTTER:
            continue
        try:
            content = package.read(name)
        except UnreadableFile as error:
            writer.note(f"{name} was not read: {error.message}")
            continue
        write_enclosures(writer, source, [Enclosure(name, content)], called="File")
    if writer.is_empty:
        reason = f" {writer.notes[0]}" if writer.notes else ""
        raise UnreadableFile("invalid_file", f"Nothing in the archive could be read.{reason}"[:500])
    return writer.document()


ARCHIVE = Kind("archive", called=("ZIP",), parse=_parse, claims=lambda look: look.package == "zip")
