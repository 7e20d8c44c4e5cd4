"""Word: paragraphs, headings by style, lists, tables, pictures, charts, notes, comments, and what is in the margins.
What was deleted is not read, and macros are never looked at."""

import posixpath
from collections.abc import Iterator
from typing import NamedTuple

from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.drawings import write_drawings
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.markup import Element, children, local, parse_xml
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.relations import Relation, main_part, picture_id, related
from cloister_retriever.parsing.rows import write_rows

__all__ = ["DOCX"]

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"

_DROPPED = frozenset({"del", "moveFrom", "instrText", "delText", "Fallback", "rubyPr", "rPr", "pPr", "sdtPr", "rt"})
"""What was deleted, what a field computes from, and what stands twice for older programs."""

_HEADING_STYLES = ("heading ", "überschrift ", "titre ", "título ", "kop ", "titolo ", "nagłówek ")
_LEVELS = 9
_ASIDE = {"footnotes": "footnote", "endnotes": "endnote", "comments": "comment"}
"""What leads to parts beside the text, and what they consist of."""

_MARGINS = ("header", "footer")


class _Style(NamedTuple):
    name: str
    level: int | None
    based_on: str | None


def _parse(source: Source) -> Document:
    package = Package(source.content)
    part = main_part(package, "word/document.xml")
    if part not in package:
        raise UnreadableFile("invalid_file", "The Word document is damaged: it has no text part.")
    body = parse_xml(package.read(part))
    leads = [one for one in related(package, part) if one.target in package]
    styles = _styles(package, _beside(package, part, leads, "styles"))
    levels = _heading_levels(styles)
    targets = {one.id: one.target for one in leads}
    pictures = _Pictures(package, source, targets)
    writer = Writer(source.max_text_bytes)
    _write_margins(writer, package, leads)
    for block in _blocks(body):
        if local(block) == "altChunk":
            _add(writer, source, package, targets.get(picture_id(block) or "", ""))
            continue
        if local(block) == "tbl":
            write_rows(writer, _rows(block))
            pictures.write(writer, block)
            continue
        text = _text(block)
        level = _level(block, levels)
        if _style_name(block, styles) == "caption":
            writer.caption(text)
        elif level is not None:
            writer.heading(level, text)
        elif _is_item(block):
            writer.line(f"- {text}" if text.strip() else "")
        else:
            writer.paragraph(text)
        pictures.write(writer, block)
        write_drawings(writer, block, package, targets)
    _write_asides(writer, package, part, leads)
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The Word document has no text.")
    return writer.document()


def _write_margins(writer: Writer, package: Package, leads: list[Relation]) -> None:
    """What stands above and below the pages, each once, before the text: it is of no section. A number says nothing."""
    said: dict[str, None] = {}
    for part in (one.target for kind in _MARGINS for one in leads if one.kind == kind):
        lines = (_text(paragraph) for paragraph in _blocks(parse_xml(package.read(part))))
        said |= dict.fromkeys(" ".join(line.split()) for line in lines if any(map(str.isalpha, line)))
    for line in said:
        writer.line(line)


def _write_asides(writer: Writer, package: Package, part: str, leads: list[Relation]) -> None:
    """What is said beside the text: notes and comments."""
    for kind, item in _ASIDE.items():
        for aside in _beside(package, part, leads, kind):
            for note in parse_xml(package.read(aside)):
                if local(note) == item and _value(note, "type") not in {"separator", "continuationSeparator"}:
                    writer.paragraph(" ".join(_text(paragraph) for paragraph in note.iter() if local(paragraph) == "p"))


def _add(writer: Writer, source: Source, package: Package, part: str) -> None:
    """A part that is a document of whatever kind, in its place."""
    if part not in package or source.read is None:
        writer.note("A document within the Word document was not read.")
        return
    try:
        writer.add(source.read(package.read(part), part), level=1)
    except UnreadableFile as error:
        writer.note(f"A document within the Word document was not read: {error.message}")


class _Pictures:
    """Writes the pictures of a block behind it."""

    def __init__(self, package: Package, source: Source, leads: dict[str, str]) -> None:
        self._package = package
        self._album = source.album
        self._leads = leads if source.album.takes_any else {}

    def write(self, writer: Writer, block: Element) -> None:
        """Those of text boxes in it are blocks' of their own."""
        for shown in block.iter():
            if local(shown) not in {"blip", "imagedata"}:
                continue
            part = self._leads.get(picture_id(shown) or "")
            above = [local(one) for one in shown.iterancestors()]
            inner = above[: above.index(local(block))] if local(block) in above else above
            if part is None or part not in self._package or {"txbxContent", "Fallback", "del"} & set(inner):
                continue
            writer.picture(self._album.take(self._package.read(part)), _alternative(shown))


def _alternative(shown: Element) -> str:
    """The text that stands for a picture: of the drawing that it is in, or of an older program's shape."""
    for above in shown.iterancestors():
        if local(above) in {"inline", "anchor"}:
            named = next((one for one in children(above) if local(one) == "docPr"), None)
            return "" if named is None else named.get("descr") or named.get("title") or ""
        if local(above) == "shape":
            return above.get("alt") or ""
    return ""


def _blocks(element: Element) -> Iterator[Element]:
    """Paragraphs and tables in their order, out of whatever they are wrapped in; text boxes behind their paragraph."""
    for child in children(element):
        name = local(child)
        if name in {"p", "tbl", "altChunk"}:
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
        if name in _DROPPED or name == "txbxContent" or (name == "r" and _is_hidden(child)):
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


def _is_hidden(run: Element) -> bool:
    """Whether text is there and not shown."""
    vanish = _property(run, "rPr", "vanish")
    return vanish is not None and (_value(vanish, "val") or "1").lower() not in {"0", "false", "off"}


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


def _beside(package: Package, part: str, leads: list[Relation], kind: str) -> list[str]:
    """The parts of this kind that the text leads to; where it says nothing of any, the one that has its name."""
    usual = posixpath.join(posixpath.dirname(part), f"{kind}.xml")
    return [one.target for one in leads if one.kind == kind] or [usual] * (usual in package)


def _styles(package: Package, parts: list[str]) -> dict[str, _Style]:
    """The styles by what paragraphs call them."""
    if not parts:
        return {}
    styles: dict[str, _Style] = {}
    for style in children(parse_xml(package.read(parts[0]))):
        if local(style) == "style" and (name := _value(style, "styleId")) is not None:
            called = _property(style, "name")
            outline = _property(style, "pPr", "outlineLvl")
            based = _property(style, "basedOn")
            styles[name] = _Style(
                name="" if called is None else (_value(called, "val") or "").lower(),
                level=None if outline is None else _number(_value(outline, "val")),
                based_on=None if based is None else _value(based, "val"),
            )
    return styles


def _style_name(paragraph: Element, styles: dict[str, _Style]) -> str:
    """What Word itself calls the style of a paragraph, in English and small letters."""
    style = _property(paragraph, "pPr", "pStyle")
    named = styles.get("" if style is None else _value(style, "val") or "")
    return "" if named is None else named.name


def _heading_levels(styles: dict[str, _Style]) -> dict[str, int]:
    """The level of each style that makes a heading, its own or that of the style that it is based on."""
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
