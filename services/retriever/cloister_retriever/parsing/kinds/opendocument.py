"""OpenDocument text and presentations: paragraphs, headings, lists, tables, notes. Slides are pages."""

from collections.abc import Iterator

from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.markup import Element, children, local, parse_xml
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.rows import write_rows

__all__ = ["ODP", "ODT"]

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
    try:
        if "META-INF/manifest.xml" in package and b"encryption-data" in package.read("META-INF/manifest.xml"):
            raise UnreadableFile("invalid_file", "The file is encrypted. Upload a copy that opens without a password.")
        root = parse_xml(package.read("content.xml"))
    except KeyError as error:
        raise UnreadableFile("invalid_file", "The OpenDocument file is damaged: it has no content.") from error
    body = next((one for one in root.iter() if local(one) == "body"), root)
    writer = Writer(source.max_text_bytes)
    _Blocks(writer).write(body)
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The OpenDocument file has no text.")
    return writer.document()


class _Blocks:
    """Writes the blocks of a document in their order."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._slides = 0

    def write(self, element: Element, *, item: bool = False) -> None:
        """What is in ``element``; in an item of a list a paragraph is a line. libxml2 bounds how deep this goes."""
        for child in children(element):
            name = local(child)
            if name in _DROPPED:
                continue
            if name == "h":
                level = _value(child, "outline-level") or "1"
                self._writer.heading(int(level) if level.isdigit() and len(level) < 3 else 1, _text(child))
            elif name == "p":
                text = _text(child)
                if item:
                    self._writer.line(f"- {text}" if text.strip() else "")
                else:
                    self._writer.paragraph(text)
                for inner in child.iter():
                    if local(inner) in {"note-body", "text-box"} and inner is not child:
                        self.write(inner)
            elif name == "table":
                write_rows(self._writer, _rows(child))
            elif name == "page":
                self._slide(child)
            else:
                self.write(child, item=item or name == "list-item")

    def _slide(self, page: Element) -> None:
        self._slides += 1
        self._writer.page(self._slides)
        frames = list(children(page))
        for frame in frames:
            if _value(frame, "class") == "title":
                self._writer.heading(1, " ".join(_text(one) for one in frame.iter() if local(one) == "p"))
        for frame in frames:
            if local(frame) == "notes":
                said = [_text(one) for one in frame.iter() if local(one) == "p"]
                if any(text.strip() for text in said):
                    self._writer.paragraph("Notes: " + "\n".join(text for text in said if text.strip()))
            elif _value(frame, "class") != "title":
                self.write(frame)


def _text(element: Element) -> str:
    """The text of a paragraph, without notes and boxes, which are blocks of their own."""
    parts = [element.text or ""]
    for child in element:
        name = local(child)
        if name == "s":
            count = _value(child, "c") or "1"
            parts.append(" " * min(int(count) if count.isdigit() and len(count) < 4 else 1, _MOST_BLANKS))
        elif name == "tab":
            parts.append("\t")
        elif name == "line-break":
            parts.append("\n")
        elif name and name not in _DROPPED and name not in {"note", "text-box", "annotation"}:
            parts.append(_text(child))
        parts.append(child.tail or "")
    return "".join(parts)


def _rows(table: Element) -> Iterator[list[str]]:
    for row in table.iter():
        if local(row) != "table-row":
            continue
        cells: list[str] = []
        for cell in children(row):
            if local(cell) in {"table-cell", "covered-table-cell"}:
                text = " ".join(_text(one) for one in cell.iter() if local(one) in {"p", "h"})
                repeated = _value(cell, "number-columns-repeated") or "1"
                times = int(repeated) if text and repeated.isdigit() and len(repeated) < 7 else 1
                cells += [text] * min(times, _MOST_REPEATED)
        yield cells


def _value(element: Element, name: str) -> str | None:
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), None)


ODT = Kind("odt", called=("ODT",), parse=_parse, claims=lambda look: look.package == "odt")
ODP = Kind("odp", called=("ODP",), parse=_parse, claims=lambda look: look.package == "odp")
