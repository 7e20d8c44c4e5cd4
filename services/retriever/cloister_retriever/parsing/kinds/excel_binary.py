"""Excel's sheets out of XLSB, which keeps in records of bytes what XLSX has in XML (MS-XLSB)."""

import struct
from collections.abc import Iterator

from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.number_formats import BUILT_IN, GENERAL, shown, shown_text
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.relations import main_part, related
from cloister_retriever.parsing.sheets import Merged, Row, Sheet

__all__ = ["ERRORS", "binary_sheets"]

_ROW, _BLANK, _RK, _ERROR, _BOOL, _REAL, _TEXT, _SHARED = range(8)
_FORMULA_TEXT, _FORMULA_NUMBER, _FORMULA_BOOL, _FORMULA_ERROR = 8, 9, 10, 11
_STRING, _FORMAT, _STYLE, _COLUMNS, _BOOK, _SHEET, _MERGED = 19, 44, 47, 60, 153, 156, 176
_STYLES_BEGIN, _STYLES_END = 617, 618
"""Numbers of records (2.3.2)."""

ERRORS = {
    0x00: "#NULL!",
    0x07: "#DIV/0!",
    0x0F: "#VALUE!",
    0x17: "#REF!",
    0x1D: "#NAME?",
    0x24: "#NUM!",
    0x2A: "#N/A",
    0x2B: "#GETTING_DATA",
}
"""What a cell shows that has an error, by its number (2.5.97.2)."""

_ROW_IS_HIDDEN, _COLUMN_IS_HIDDEN = 0x10, 0x01


def binary_sheets(package: Package) -> list[Iterator[Sheet]]:
    """The sheets in their order, each read when it is asked for.

    Raises:
        UnreadableFile: There is no workbook in it.
    """
    part = main_part(package, "xl/workbook.bin")
    if part not in package:
        raise UnreadableFile("invalid_file", "The spreadsheet is damaged: it does not say what its sheets are.")
    leads = {one.id: one for one in related(package, part) if one.target in package}
    book = _Book()
    for one in leads.values():
        if one.kind == "sharedStrings":
            book.strings = [_string(data, 1)[0] for kind, data in _records(package.read(one.target)) if kind == _STRING]
        elif one.kind == "styles":
            book.formats = _formats(package.read(one.target))
    found: list[Iterator[Sheet]] = []
    for kind, data in _records(package.read(part)):
        if kind == _BOOK:
            book.since_1904 = bool(data[:1] and data[0] & 1)
        elif kind == _SHEET:
            target, end = _string(data, 8)
            lead = leads.get(target)
            if lead is not None and lead.kind == "worksheet":
                sheet = Sheet(_string(data, end)[0], is_hidden=data[:1] != b"\0")
                found.append(_sheet(package, book, lead.target, sheet))
    return found


class _Book:
    """What all sheets of a workbook share."""

    def __init__(self) -> None:
        self.strings: list[str] = []
        self.formats: list[str] = []
        self.since_1904 = False

    def shown(self, kind: int, data: bytes, style: int) -> str:
        """What a cell shows."""
        code = self.formats[style] if style < len(self.formats) else GENERAL
        if kind == _RK:
            return shown(_packed(data), code, since_1904=self.since_1904)
        if kind in {_REAL, _FORMULA_NUMBER}:
            return shown(struct.unpack_from("<d", data)[0], code, since_1904=self.since_1904)
        if kind in {_ERROR, _FORMULA_ERROR}:
            return ERRORS.get(data[0], "#UNKNOWN!")
        if kind in {_BOOL, _FORMULA_BOOL}:
            return "TRUE" if data[0] else "FALSE"
        if kind == _SHARED:
            at = struct.unpack_from("<I", data)[0]
            return shown_text(self.strings[at], code) if at < len(self.strings) else ""
        return shown_text(_string(data, 0)[0], code)


def _sheet(package: Package, book: _Book, part: str, sheet: Sheet) -> Iterator[Sheet]:
    content = package.read(part)
    for kind, data in _records(content):
        if kind == _MERGED and len(data) >= 16:
            first, last, left, _ = struct.unpack_from("<4I", data)
            sheet.merged.append(Merged(first, last, left))
        elif kind == _COLUMNS and len(data) >= 18:
            sheet.hides = sheet.hides or bool(data[16] & _COLUMN_IS_HIDDEN)
    sheet.rows = _rows(content, book, sheet)
    yield sheet


def _rows(content: bytes, book: _Book, sheet: Sheet) -> Iterator[Row]:
    row = Row(-1, {})
    for kind, data in _records(content):
        try:
            if kind == _ROW:
                if row.cells:
                    yield row
                row = Row(struct.unpack_from("<I", data)[0], {}, hidden=bool(data[11] & _ROW_IS_HIDDEN))
            elif kind <= _FORMULA_ERROR and kind != _BLANK:
                column, style = struct.unpack_from("<II", data)
                row.cells[column] = book.shown(kind, data[8:], style & 0xFFFFFF)
        except (struct.error, IndexError):
            sheet.is_damaged = True
    if row.cells:
        yield row


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and data of each record (2.1.4): both numbers have seven bits in a byte, and say if there is another."""
    at, length = 0, len(content)
    while at < length:
        kind, at = content[at], at + 1
        if kind & 0x80 and at < length:
            kind, at = kind & 0x7F | content[at] << 7, at + 1
        size = 0
        for shift in range(0, 28, 7):
            if at >= length:
                return
            byte, at = content[at], at + 1
            size |= (byte & 0x7F) << shift
            if not byte & 0x80:
                break
        yield kind, content[at : at + size]
        at += size


def _string(data: bytes, at: int) -> tuple[str, int]:
    """A text that begins with how many characters of UTF-16 it has, and where it ends."""
    count = int.from_bytes(data[at : at + 4], "little")
    end = at + 4 + 2 * (0 if count == 0xFFFFFFFF else count)
    return data[at + 4 : end].decode("utf-16-le", "replace"), end


def _packed(data: bytes) -> float:
    """A number in four bytes (2.5.122): the upper ones of eight, or a whole number; and whether it is of hundredths."""
    bits = struct.unpack_from("<i", data)[0]
    value = float(bits >> 2) if bits & 2 else struct.unpack("<d", b"\0" * 4 + struct.pack("<i", bits & ~3))[0]
    return value / 100 if bits & 1 else value


def _formats(content: bytes) -> list[str]:
    """The number format of each style of cells."""
    own: dict[int, str] = {}
    styles: list[str] = []
    is_cells = False
    for kind, data in _records(content):
        if kind in {_STYLES_BEGIN, _STYLES_END}:
            is_cells = kind == _STYLES_BEGIN
        elif kind == _FORMAT:
            own[int.from_bytes(data[:2], "little")] = _string(data, 2)[0]
        elif kind == _STYLE and is_cells:
            number = int.from_bytes(data[2:4], "little")
            styles.append(own.get(number) or BUILT_IN.get(number, GENERAL))
    return styles
