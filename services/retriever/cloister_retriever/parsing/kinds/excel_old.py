"""Excel's sheets out of XLS, through xlrd: it reads the formats of cells too."""

import io
from collections.abc import Iterator
from typing import Any

import xlrd

from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.kinds.excel_binary import ERRORS
from cloister_retriever.parsing.number_formats import GENERAL, shown, shown_text
from cloister_retriever.parsing.sheets import Merged, Row, Sheet, column_name

__all__ = ["old_sheets"]


def old_sheets(content: bytes) -> list[Iterator[Sheet]]:
    """The sheets in their order, each read when it is asked for.

    Raises:
        UnreadableFile: It is damaged, or encrypted.
    """
    try:
        # What xlrd has to say of a file goes nowhere: the process speaks to its parent on its standard output.
        book = xlrd.open_workbook(
            file_contents=content, formatting_info=True, on_demand=True, ragged_rows=True, logfile=io.StringIO()
        )
    except Exception as error:
        # Of a damaged file xlrd raises whatever comes of it, AssertionError and IndexError among them.
        if "encrypted" in str(error).lower():
            raise UnreadableFile(
                "invalid_file", "The spreadsheet is encrypted. Upload a copy that opens without a password."
            ) from error
        raise UnreadableFile("invalid_file", "The spreadsheet is damaged and cannot be opened.") from error
    return [_sheet(book, number, name) for number, name in enumerate(book.sheet_names())]


def _sheet(book: Any, number: int, name: str) -> Iterator[Sheet]:
    sheet = Sheet(name)
    try:
        read = book.sheet_by_index(number)
    except Exception:  # noqa: BLE001 - as in `old_sheets`
        sheet.is_damaged = True
        yield sheet
        return
    sheet.is_hidden = read.visibility != 0
    sheet.hides = any(column.hidden for column in read.colinfo_map.values())
    sheet.merged = [Merged(first, end - 1, left) for first, end, left, _ in read.merged_cells]
    sheet.comments = [
        (f"{column_name(column)}{row + 1}", str(note.text))
        for (row, column), note in sorted(read.cell_note_map.items())
    ]
    sheet.rows = _rows(book, read)
    yield sheet
    book.unload_sheet(number)


def _rows(book: Any, read: Any) -> Iterator[Row]:
    for number in range(read.nrows):
        cells = {column: text for column, cell in enumerate(read.row(number)) if (text := _shown(book, cell))}
        about = read.rowinfo_map.get(number)
        if cells:
            yield Row(number, cells, hidden=about is not None and bool(about.hidden))


def _shown(book: Any, cell: Any) -> str:
    code = GENERAL
    if cell.xf_index is not None and cell.xf_index < len(book.xf_list):
        format_of = book.format_map.get(book.xf_list[cell.xf_index].format_key)
        code = GENERAL if format_of is None else format_of.format_str
    if cell.ctype == xlrd.XL_CELL_TEXT:
        return shown_text(cell.value, code)
    if cell.ctype in {xlrd.XL_CELL_NUMBER, xlrd.XL_CELL_DATE}:
        return shown(cell.value, code, since_1904=book.datemode == 1)
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return "TRUE" if cell.value else "FALSE"
    return ERRORS.get(cell.value, "#UNKNOWN!") if cell.ctype == xlrd.XL_CELL_ERROR else ""
