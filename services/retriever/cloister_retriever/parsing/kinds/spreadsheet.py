"""Spreadsheets, Excel's and OpenDocument's: a heading a sheet, a line a row, and of each cell what it shows."""

from collections.abc import Iterable, Iterator

from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.excel import excel_sheets
from cloister_retriever.parsing.kinds.excel_binary import binary_sheets
from cloister_retriever.parsing.kinds.excel_old import old_sheets
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.kinds.opensheet import open_sheets
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.packages import Package, package_of
from cloister_retriever.parsing.sheets import Sheet, write_sheets

__all__ = ["SPREADSHEET"]


def _parse(source: Source) -> Document:
    writer = Writer(source.max_text_bytes)
    write_sheets(writer, _sheets(source))
    if writer.is_empty:
        reason = "".join(f" {note}" for note in writer.notes)
        raise UnreadableFile("invalid_file", f"The spreadsheet has no text.{reason}"[:500])
    return writer.document()


def _sheets(source: Source) -> Iterator[Sheet]:
    kind = package_of(source.content)
    if kind == "ods":
        count, sheets = open_sheets(Package(source.content))
        return (sheet for _, sheet in zip(source.counted(range(count)), sheets, strict=False))
    if kind == "xls":
        return _in_turn(source, old_sheets(source.content))
    read = binary_sheets if kind == "xlsb" else excel_sheets
    return _in_turn(source, read(Package(source.content)))


def _in_turn(source: Source, sheets: list[Iterator[Sheet]]) -> Iterator[Sheet]:
    """Each sheet, which is opened when it is its turn."""
    parts: Iterable[Iterator[Sheet]] = source.counted(sheets)
    for part in parts:
        yield from part


SPREADSHEET = Kind(
    "spreadsheet",
    called=("XLSX", "XLSB", "XLS", "ODS"),
    parse=_parse,
    claims=lambda look: look.package in {"xlsx", "xlsb", "xls", "ods"},
)
