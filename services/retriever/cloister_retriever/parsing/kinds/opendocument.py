"""OpenDocument text and presentations: paragraphs, headings, lists, tables, pictures, notes. Slides are pages."""

from collections.abc import Iterator

from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.markup import Element, children, local, parse_xml
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.rows import write_rows

__all__ = ["ODP", "ODT", "content_of", "text_of", "value_of"]

_DROPPED = frozenset(
    {
        *("tracked-changes", "annotation-end", "sequence-decls", "forms", "creator", "date", "initials", "scripts"),
        *("table-of-content-source", "index-title-template", "settings", "variable-decls", "desc", "title"),
    }
)
_MOST_BLANKS = 100
_MOST_REPEATED = 1_000
"""A cell says how often it is repeated, and a bomb says it a million times."""


def _parse(source: Source) -> Document:
    package = Package(source.content)
    root = parse_xml(content_of(package))
    body = next((one for one in root.iter() if local(one) == "body"), root)
    writer = Writer(source.max_text_bytes)
    if any(local(one) == "text" for one in children(body)):
        _write_margins(writer, package)
    _Blocks(writer, package, source).write(body)
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The OpenDocument file has no text.")
    return writer.document()


def content_of(package: Package) -> bytes:
    """The part of a file that has what it says.

    Raises:
        UnreadableFile: There is none, or it is encrypted.
    """
    if "META-INF/manifest.xml" in package and b"encryption-data" in package.read("META-INF/manifest.xml"):
        raise UnreadableFile("invalid_file", "The file is encrypted. Upload a copy that opens without a password.")
    if "content.xml" not in package:
        raise UnreadableFile("invalid_file", "The OpenDocument file is damaged: it has no content.")
    return package.read("content.xml")


def _write_margins(writer: Writer, package: Package) -> None:
    """What stands above and below the pages, each once, before the text, as of a Word document."""
    if "styles.xml" not in package:
        return
    said: dict[str, None] = {}
    for margin in parse_xml(package.read("styles.xml")).iter():
        if local(margin).removesuffix("-left").removesuffix("-first") in {"header", "footer"}:
            lines = (" ".join(text_of(one).split()) for one in margin.iter() if local(one) == "p")
            said |= dict.fromkeys(line for line in lines if any(map(str.isalpha, line)))
    for line in said:
        writer.line(line)


class _Blocks:
    """Writes the blocks of a document in their order."""

    def __init__(self, writer: Writer, package: Package, source: Source) -> None:
        self._writer = writer
        self._package = package
        self._album = source.album
        self._slides = 0

    def write(self, element: Element, *, item: bool = False) -> None:
        """What is in ``element``; in an item of a list a paragraph is a line. libxml2 bounds how deep this goes."""
        for child in children(element):
            name = local(child)
            if name in _DROPPED:
                continue
            if name == "h":
                level = value_of(child, "outline-level") or "1"
                self._writer.heading(int(level) if level.isdigit() and len(level) < 3 else 1, text_of(child))
            elif name == "p":
                self._paragraph(child, item=item)
            elif name == "image":
                self._picture(child)
            elif name == "table":
                write_rows(self._writer, _rows(child))
            elif name == "page":
                self._slide(child)
            else:
                self.write(child, item=item or name == "list-item")

    def _paragraph(self, paragraph: Element, *, item: bool) -> None:
        """A paragraph, and behind it its notes, comments, boxes and pictures."""
        text = text_of(paragraph)
        if item:
            self._writer.line(f"- {text}" if text.strip() else "")
        else:
            self._writer.paragraph(text)
        for inner in paragraph.iter():
            name = local(inner)
            if name not in {"note-body", "text-box", "annotation", "image"}:
                continue
            if next(one for one in inner.iterancestors() if local(one) == "p") is not paragraph:
                continue  # of a paragraph within this one, which has its turn
            if name == "image":
                self._picture(inner)
            else:
                self.write(inner)

    def _slide(self, page: Element) -> None:
        self._slides += 1
        self._writer.page(self._slides)
        frames = list(children(page))
        for frame in frames:
            if value_of(frame, "class") == "title":
                self._writer.heading(1, " ".join(text_of(one) for one in frame.iter() if local(one) == "p"))
        for frame in frames:
            if local(frame) == "notes":
                said = [text_of(one) for one in frame.iter() if local(one) == "p"]
                if any(text.strip() for text in said):
                    self._writer.paragraph("Notes: " + "\n".join(text for text in said if text.strip()))
            elif value_of(frame, "class") != "title":
                self.write(frame)

    def _picture(self, image: Element) -> None:
        """Of several images of a frame, which are the same in other formats, the first that is read counts."""
        frame = image.getparent()
        part = (value_of(image, "href") or "").removeprefix("./")
        if part in self._package and next(one for one in children(frame) if local(one) == "image") is image:
            said = (one for name in ("desc", "title") for one in children(frame) if local(one) == name)
            text = next((one.text for one in said if one.text and one.text.strip()), "")
            self._writer.picture(self._album.take(self._package.read(part)), text)


def text_of(element: Element) -> str:
    """The text of a paragraph, without notes and boxes, which are blocks of their own."""
    parts = [element.text or ""]
    for child in element:
        name = local(child)
        if name == "s":
            count = value_of(child, "c") or "1"
            parts.append(" " * min(int(count) if count.isdigit() and len(count) < 4 else 1, _MOST_BLANKS))
        elif name == "tab":
            parts.append("\t")
        elif name == "line-break":
            parts.append("\n")
        elif name and name not in _DROPPED and name not in {"note", "text-box", "annotation"}:
            parts.append(text_of(child))
        parts.append(child.tail or "")
    return "".join(parts)


def _rows(table: Element) -> Iterator[list[str]]:
    for row in table.iter():
        if local(row) != "table-row":
            continue
        cells: list[str] = []
        for cell in children(row):
            if local(cell) in {"table-cell", "covered-table-cell"}:
                text = " ".join(text_of(one) for one in cell.iter() if local(one) in {"p", "h"})
                repeated = value_of(cell, "number-columns-repeated") or "1"
                times = int(repeated) if text and repeated.isdigit() and len(repeated) < 7 else 1
                cells += [text] * min(times, _MOST_REPEATED)
        yield cells


def value_of(element: Element, name: str) -> str | None:
    """An attribute by its name without its namespace."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), None)


ODT = Kind("odt", called=("ODT",), parse=_parse, claims=lambda look: look.package == "odt")
ODP = Kind("odp", called=("ODP",), parse=_parse, claims=lambda look: look.package == "odp")
