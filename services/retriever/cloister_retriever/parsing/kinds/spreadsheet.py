"""Spreadsheets, Excel's and OpenDocument's: a heading a sheet, a line a row, values as they were last computed."""

import datetime
import io
from collections.abc import Iterator

import python_calamine

from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.rows import write_records

__all__ = ["SPREADSHEET"]

_EXCEL_EXACT = 15
"""Digits that a number has in a cell: what is behind them is the arithmetic's."""


def _parse(source: Source) -> Document:
    if source.content.startswith(b"PK"):
        package = Package(source.content)
        for name in package:
            package.read(name)  # what would burst is told before it is unpacked at once
    try:
        book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(source.content))
    except python_calamine.PasswordError as error:
        raise UnreadableFile(
            "invalid_file", "The spreadsheet is encrypted. Upload a copy that opens without a password."
        ) from error
    except python_calamine.CalamineError as error:
        raise UnreadableFile("invalid_file", "The spreadsheet is damaged and cannot be opened.") from error
    writer = Writer(source.max_text_bytes)
    damaged = 0
    for about in book.sheets_metadata:
        if about.typ != python_calamine.SheetTypeEnum.WorkSheet:
            continue  # a chart, or a macro
        try:
            sheet = book.get_sheet_by_name(about.name)
        except (python_calamine.CalamineError, python_calamine.WorksheetNotFound):
            damaged += 1
            continue
        if sheet.height:
            writer.heading(1, about.name)
            write_records(writer, _rows(sheet))
    if damaged:
        writer.note(f"Of the sheets {damaged} could not be read: damaged.")
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The spreadsheet has no text.")
    return writer.document()


def _rows(sheet: python_calamine.CalamineSheet) -> Iterator[list[str]]:
    for row in sheet.iter_rows():
        yield [_shown(value) for value in row]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return f"{value:.{_EXCEL_EXACT}g}" if abs(value) < 10**_EXCEL_EXACT else repr(value)
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "seconds")
    if isinstance(value, datetime.timedelta):
        return str(value)
    return str(value)


SPREADSHEET = Kind(
    "spreadsheet",
    called=("XLSX", "XLS", "ODS"),
    parse=_parse,
    claims=lambda look: look.package in {"xlsx", "xls", "ods"},
)
