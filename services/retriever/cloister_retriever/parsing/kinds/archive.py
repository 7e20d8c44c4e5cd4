"""ZIP: the files in an archive, each as if it had been uploaded, under its name.

A text that describes a picture beside it is that picture's, and no file of its own.
"""

from cloister_retriever.parsing.decoding import decode
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.letters import Enclosure, write_enclosures
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.sidecars import SIDECARS, description_in, picture_of

__all__ = ["ARCHIVE"]

_CLUTTER = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")


def _parse(source: Source) -> Document:
    package = Package(source.content)
    writer = Writer(source.max_text_bytes)
    for name in package.links:
        writer.note(f"{name} was not read: it leads to another file.")
    for name in source.counted(list(package)):
        if name.startswith(_CLUTTER[0]) or name.rpartition("/")[2] in _CLUTTER:
            continue
        if (picture := picture_of(name)) is not None and picture in package:
            continue  # with its picture
        try:
            enclosure = Enclosure(name, package.read(name), _description(package, name, source))
        except UnreadableFile as error:
            writer.note(f"{name} was not read: {error.message}")
            continue
        write_enclosures(writer, source, [enclosure], called="File")
    if writer.is_empty:
        reason = f" {writer.notes[0]}" if writer.notes else ""
        raise UnreadableFile("invalid_file", f"Nothing in the archive could be read.{reason}"[:500])
    return writer.document()


def _description(package: Package, name: str, source: Source) -> str | None:
    """What is said of a picture in files beside it."""
    for ending in SIDECARS:
        beside = name + ending
        if picture_of(beside) is not None and beside in package:
            text = decode(package.read(beside), languages=source.languages).text
            if said := description_in(beside, text):
                return said
    return None


ARCHIVE = Kind("archive", called=("ZIP",), parse=_parse, claims=lambda look: look.package == "zip")
