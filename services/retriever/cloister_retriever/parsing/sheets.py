"""A workbook's sheets, whatever file they come out of: rows of what their cells show, and what a reader should know.

Rows and cells that hold nothing are nowhere: a value in the last cell of the last row of a sheet is one value.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.rows import write_records

__all__ = ["Merged", "Row", "Sheet", "column_name", "write_sheets"]

_NAMED = 10
"""Sheets that are named in a sentence."""


class Merged(NamedTuple):
    """Cells that are shown as one: the first and last row, and the first column, from 0."""

    first: int
    last: int
    column: int


class Row(NamedTuple):
    """A row that has cells: its number, from 0, and what they show, by their columns, from 0."""

    number: int
    cells: dict[int, str]
    hidden: bool = False


class Sheet:
    """One sheet, as it is read.

    Attributes:
        name: Its name.
        rows: Its rows in their order. They are read once.
        is_hidden: Whether the sheet is.
        hides: Whether it has rows or columns that are. It is known when the rows have been read.
        merged: Cells that are one, as far as they are several rows high.
        uncomputed: Formulas without a value; as ``hides``.
        comments: What was said of cells, by their names; as ``hides``.
        is_damaged: Whether something of it could not be read; as ``hides``.
        is_cut: Whether it says of a row that it stands there more often than it is read; as ``hides``.
    """

    def __init__(self, name: str, *, is_hidden: bool = False) -> None:
        self.name = name
        self.rows: Iterable[Row] = ()
        self.is_hidden = is_hidden
        self.hides = False
        self.merged: list[Merged] = []
        self.uncomputed = 0
        self.comments: list[tuple[str, str]] = []
        self.is_damaged = False
        self.is_cut = False

    def damaged(self) -> None:
        """Says that something of it could not be read."""
        self.is_damaged = True


def write_sheets(writer: Writer, sheets: Iterable[Sheet]) -> None:
    """Each sheet under its name. What nobody sees who opens the workbook is read too, and told: a filter that was left
    on hides most rows of many a sheet."""
    hidden: list[str] = []
    hiding: list[str] = []
    damaged: list[str] = []
    cut: list[str] = []
    uncomputed = 0
    for sheet in sheets:
        rows = _gaps(_filled(sheet))
        first = next(rows, None)
        if first is not None:
            writer.heading(1, sheet.name)
            write_records(writer, _with(first, rows))
        for cell, said in sheet.comments:
            writer.paragraph(f"Comment on {cell}: {' '.join(said.split())}" if said.strip() else "")
        if first is not None and sheet.is_hidden:
            hidden.append(sheet.name)
        if sheet.hides:
            hiding.append(sheet.name)
        if sheet.is_damaged:
            damaged.append(sheet.name)
        if sheet.is_cut:
            cut.append(sheet.name)
        uncomputed += sheet.uncomputed
    for names, (one, more), sentence in (
        (hidden, ("is", "are"), "hidden, and read all the same."),
        (hiding, ("has", "have"), "rows or columns that are hidden, and read all the same."),
        (damaged, ("is", "are"), "damaged, and read as far as that goes."),
        (cut, ("has", "have"), "rows that say they are repeated more often than they are read."),
    ):
        if names:
            writer.note(f"{_subject(names, one, more)} {sentence}")
    if uncomputed:
        has = "1 formula has" if uncomputed == 1 else f"{uncomputed} formulas have"
        writer.note(f"{has} no value yet: open the spreadsheet in the program that it is for, and save it.")


def column_name(column: int) -> str:
    """``A`` for 0, ``AA`` for 26."""
    name = ""
    while column >= 0:
        column, letter = divmod(column, 26)
        name = chr(ord("A") + letter) + name
        column -= 1
    return name


def _subject(names: list[str], one: str, more: str) -> str:
    shown = ", ".join(names[:_NAMED])
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"The sheet {shown} {one}" if len(names) == 1 else f"The sheets {shown}{rest} {more}"


def _with(first: Mapping[int, str], rows: Iterator[Mapping[int, str]]) -> Iterator[Mapping[int, str]]:
    yield first
    yield from rows


def _gaps(rows: Iterable[Row]) -> Iterator[Mapping[int, str]]:
    """The rows' cells, and an empty row where there are some between two."""
    last: int | None = None
    for row in rows:
        if not any(text.strip() for text in row.cells.values()):
            continue
        if last is not None and row.number > last + 1:
            yield {}
        last = row.number
        yield row.cells


def _filled(sheet: Sheet) -> Iterator[Row]:
    """The rows, each with what a merged cell says that began above it: a passage may be any row of it."""
    waiting = sorted((one for one in sheet.merged if one.last > one.first), reverse=True)
    shown: dict[int, tuple[Merged, str]] = {}
    for row in sheet.rows:
        sheet.hides = sheet.hides or row.hidden
        shown = {column: one for column, one in shown.items() if one[0].last >= row.number}
        for column, (_, text) in shown.items():
            row.cells.setdefault(column, text)
        while waiting and waiting[-1].first <= row.number:
            merged = waiting.pop()
            if merged.first == row.number and (text := row.cells.get(merged.column, "").strip()):
                shown[merged.column] = (merged, text)
        yield row
