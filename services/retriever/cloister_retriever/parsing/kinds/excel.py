"""Excel's sheets out of XLSX, read as a stream of rows: what their cells show, as it was last computed."""

import re
from collections.abc import Iterator

from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.markup import Element, children, local, parse_xml, stream_xml
from cloister_retriever.parsing.number_formats import BUILT_IN, GENERAL, shown, shown_text
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.relations import main_part, related
from cloister_retriever.parsing.sheets import Merged, Row, Sheet

__all__ = ["excel_sheets"]

_CELL = re.compile(r"\$?([A-Z]{1,3})\$?(\d{1,7})")
_MERGED = re.compile(
    rb"<(?:\w{1,20}:)?mergeCell[ \t\r\n][^>]{0,200}?ref=[\"']([A-Z]{1,3}\d{1,7}):([A-Z]{1,3}\d{1,7})[\"']"
)
_TRUE = frozenset({"1", "true", "on"})
_MOST_COMMENTS = 10_000


class _Book:
    """What all sheets of a workbook share."""

    def __init__(self, package: Package, part: str) -> None:
        self.strings: list[str] = []
        self.formats: list[str] = []
        self.since_1904 = False
        for one in related(package, part):
            if one.target not in package:
                continue
            if one.kind == "sharedStrings":
                self.strings = [_words(item) for item in stream_xml(package.read(one.target), "si")]
            elif one.kind == "styles":
                self.formats = _formats(parse_xml(package.read(one.target)))

    def shown(self, cell: Element) -> str | None:
        """What a cell shows; None where a formula in it has no value."""
        kind, style = cell.get("t", "n"), cell.get("s", "0")
        code = self.formats[at] if (at := _number(style, len(self.formats))) < len(self.formats) else GENERAL
        value: str | None = None
        formula = False
        for child in children(cell):
            name = local(child)
            if name == "v":
                value = child.text
            elif name == "is":
                return shown_text(_words(child), code)
            formula = formula or name == "f"
        if value is None:
            return None if formula else ""
        if kind == "s":
            at = _number(value.strip(), len(self.strings))
            return shown_text(self.strings[at], code) if at < len(self.strings) else ""
        if kind == "b":
            return "TRUE" if value.strip() in _TRUE else "FALSE"
        if kind == "d":
            return value.removesuffix("T00:00:00").replace("T", " ")
        if kind in {"str", "e"}:
            return shown_text(value, code)
        try:
            return shown(float(value), code, since_1904=self.since_1904)
        except ValueError:
            return value


def excel_sheets(package: Package) -> list[Iterator[Sheet]]:
    """The sheets in their order, each read when it is asked for.

    Raises:
        UnreadableFile: There is no workbook in it.
    """
    part = main_part(package, "xl/workbook.xml")
    if part not in package:
        raise UnreadableFile("invalid_file", "The spreadsheet is damaged: it does not say what its sheets are.")
    workbook = parse_xml(package.read(part))
    book = _Book(package, part)
    leads = {one.id: one for one in related(package, part)}
    found: list[Iterator[Sheet]] = []
    for element in workbook.iter():
        if local(element) == "workbookPr":
            book.since_1904 = element.get("date1904", "").lower() in _TRUE
        elif local(element) == "sheet":
            lead = leads.get(next((value for key, value in element.attrib.items() if key.endswith("}id")), ""))
            # Of charts there is nothing to read, and macros are never looked at.
            if lead is not None and lead.kind == "worksheet" and lead.target in package:
                hidden = element.get("state", "visible") != "visible"
                found.append(_sheet(package, book, lead.target, Sheet(element.get("name", ""), is_hidden=hidden)))
    return found


def _sheet(package: Package, book: _Book, part: str, sheet: Sheet) -> Iterator[Sheet]:
    content = package.read(part)
    for first, last in _MERGED.findall(content):
        (top, left), (bottom, _) = _place(first.decode()), _place(last.decode())
        sheet.merged.append(Merged(top, bottom, left))
    sheet.rows = _rows(content, book, sheet)
    sheet.comments = _comments(package, part)
    yield sheet


def _rows(content: bytes, book: _Book, sheet: Sheet) -> Iterator[Row]:
    number = -1
    for element in stream_xml(content, "row", "col", on_damage=sheet.damaged):
        hidden = element.get("hidden", "").lower() in _TRUE
        if local(element) == "col":
            sheet.hides = sheet.hides or hidden
            continue
        number = _number(element.get("r", ""), number + 2) - 1
        cells: dict[int, str] = {}
        column = -1
        for cell in children(element):
            place = _CELL.fullmatch(cell.get("r", ""))
            column = column + 1 if place is None else _column(place[1])
            text = book.shown(cell)
            if text is None:
                sheet.uncomputed += 1
            elif text:
                cells[column] = text
        yield Row(number, cells, hidden)


def _comments(package: Package, part: str) -> list[tuple[str, str]]:
    """What was said of cells: in threads, else in notes, which say of threads only that there are some."""
    leads = [one for one in related(package, part) if one.target in package]
    kinds = {one.kind for one in leads}
    kind = "threadedComment" if "threadedComment" in kinds else "comments"
    found = [
        (element.get("ref", ""), _words(element))
        for one in leads
        if one.kind == kind
        for element in parse_xml(package.read(one.target)).iter()
        if local(element) in {"comment", "threadedComment"}
    ]
    return found[:_MOST_COMMENTS]


def _words(element: Element) -> str:
    """Its text, without how that is pronounced."""
    return "".join(
        one.text or ""
        for one in element.iter()
        if local(one) in {"t", "text"} and not (one.text is None or local(one.getparent()) == "rPh")
    )


def _formats(styles: Element) -> list[str]:
    """The number format of each style of cells."""
    own = {one.get("numFmtId"): one.get("formatCode", "") for one in styles.iter() if local(one) == "numFmt"}
    cells = next((one for one in styles.iter() if local(one) == "cellXfs"), ())
    numbers = [one.get("numFmtId", "0") for one in cells if local(one) == "xf"]
    return [own.get(at) or BUILT_IN.get(_number(at, 0), GENERAL) for at in numbers]


def _number(text: str, other: int) -> int:
    """A whole number, or the other where this is none."""
    return int(text) if text.isdecimal() and len(text) < 10 else other


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _place(name: str) -> tuple[int, int]:
    """Row and column, from 0, of a cell by its name."""
    found = _CELL.fullmatch(name)
    assert found is not None, "the pattern of a range holds two"
    return int(found[2]) - 1, _column(found[1])
