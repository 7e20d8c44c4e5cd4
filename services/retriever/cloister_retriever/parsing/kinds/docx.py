"""Word: paragraphs, headings by style, lists, tables, notes and comments. Macros are never looked at."""

from collections.abc import Iterator
from typing import NamedTuple

from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.markup import Element, children, local, parse_xml
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.rows import write_rows

__all__ = ["DOCX"]

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"

_DROPPED = frozenset({"del", "moveFrom", "instrText", "delText", "Fallback", "rubyPr", "rPr", "pPr", "sdtPr", "rt"})
"""What was deleted, what a field computes from, and what stands twice for older programs."""

_HEADING_STYLES = ("heading ", "überschrift ", "titre ", "título ", "kop ", "titolo ", "nagłówek ")
_LEVELS = 9
_ASIDE = (("word/footnotes.xml", "footnote"), ("word/endnotes.xml", "endnote"), ("word/comments.xml", "comment"))


class _Style(NamedTuple):
    name: str
    level: int | None
    based_on: str | None


def _parse(source: Source) -> Document:
    package = Package(source.content)
    try:
        body = parse_xml(package.read("word/document.xml"))
    except KeyError as error:
        raise UnreadableFile("invalid_file", "The Word document is damaged: it has no text part.") from error
    levels = _heading_levels(package)
    writer = Writer(source.max_text_bytes)
    for block in _blocks(body):
        if local(block) == "tbl":
            write_rows(writer, _rows(block))
            continue
        text = _text(block)
        level = _level(block, levels)
        if level is not None:
            writer.heading(level, text)
        elif _is_item(block):
            writer.line(f"- {text}" if text.strip() else "")
        else:
            writer.paragraph(text)
    for part, item in _ASIDE:
        if part in package:
            for note in parse_xml(package.read(part)):
                if local(note) == item and _value(note, "type") not in {"separator", "continuationSeparator"}:
                    writer.paragraph(" ".join(_text(paragraph) for paragraph in note.iter() if local(paragraph) == "p"))
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The Word document has no text.")
    return writer.document()


def _blocks(element: Element) -> Iterator[Element]:
    """Paragraphs and tables in their order, out of whatever they are wrapped in; text boxes behind their paragraph."""
    for child in children(element):
        name = local(child)
        if name in {"p", "tbl"}:
            yield child
            if name == "p":
                for box in child.iter(f"{_W}txbxContent", f"{_STRICT}txbxContent"):
                    if not any(local(above) == "Fallback" for above in box.iterancestors()):
                        yield from _blocks(box)
        elif name not in _DROPPED:
            yield from _blocks(child)


def _text(element: Element) -> str:
    """The text of a paragraph, without text boxes, which are blocks of their own."""
    parts: list[str] = []
    for child in children(element):
        name = local(child)
        if name in _DROPPED or name == "txbxContent":
            continue
        if name == "t":
            parts.append(child.text or "")
        elif name in {"tab", "ptab"}:
            parts.append("\t")
        elif name in {"br", "cr"}:
            parts.append("\n")
        elif name == "noBreakHyphen":
            parts.append("-")
        else:
            parts.append(_text(child))
    return "".join(parts)


def _rows(table: Element) -> Iterator[list[str]]:
    for row in table.iter(f"{_W}tr", f"{_STRICT}tr"):
        if next(above for above in row.iterancestors() if local(above) == "tbl") is not table:
            continue  # of a table within a cell, which is that cell's text
        yield [
            " ".join(_text(one) for one in cell.iter(f"{_W}p", f"{_STRICT}p"))
            for cell in row.iter(f"{_W}tc", f"{_STRICT}tc")
            if next(above for above in cell.iterancestors() if local(above) == "tr") is row
        ]


def _value(element: Element, name: str) -> str | None:
    value = element.get(_W + name, element.get(_STRICT + name))
    return None if value is None else str(value)


def _property(paragraph: Element, *path: str) -> Element | None:
    found = paragraph
    for name in path:
        found = next((child for child in children(found) if local(child) == name), None)
        if found is None:
            return None
    return found


def _heading_levels(package: Package) -> dict[str, int]:
    """The level of each style that makes a heading, its own or that of the style that it is based on."""
    if "word/styles.xml" not in package:
        return {}
    styles: dict[str, _Style] = {}
    for style in children(parse_xml(package.read("word/styles.xml"))):
        if local(style) == "style" and (name := _value(style, "styleId")) is not None:
            called = _property(style, "name")
            outline = _property(style, "pPr", "outlineLvl")
            based = _property(style, "basedOn")
            styles[name] = _Style(
                name="" if called is None else (_value(called, "val") or "").lower(),
                level=None if outline is None else _number(_value(outline, "val")),
                based_on=None if based is None else _value(based, "val"),
            )
    found = {name: _style_level(styles, name) for name in styles}
    return {name: level for name, level in found.items() if level is not None}


def _style_level(styles: dict[str, _Style], name: str) -> int | None:
    seen: set[str] = set()
    current: str | None = name
    while current in styles and current not in seen:
        seen.add(current)
        style = styles[current]
        if style.name == "title":
            return 0
        for prefix in _HEADING_STYLES:
            if style.name.startswith(prefix) and style.name[len(prefix) :].isdigit():
                return min(int(style.name[len(prefix) :]), _LEVELS)
        if style.level is not None:
            return style.level + 1 if style.level < _LEVELS else None
        current = style.based_on
    return None


def _level(paragraph: Element, levels: dict[str, int]) -> int | None:
    outline = _property(paragraph, "pPr", "outlineLvl")
    if outline is not None:
        level = _number(_value(outline, "val"))
        return level + 1 if level is not None and level < _LEVELS else None
    style = _property(paragraph, "pPr", "pStyle")
    return None if style is None else levels.get(_value(style, "val") or "")


def _is_item(paragraph: Element) -> bool:
    return _property(paragraph, "pPr", "numPr") is not None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 4 else None


DOCX = Kind("docx", called=("DOCX",), parse=_parse, claims=lambda look: look.package == "docx")
