"""OpenDocument's sheets, read as a stream of rows: their cells keep what they show as text (ODF 1.3, part 3, 9.1.4)."""

import itertools
import re
from collections.abc import Iterator

from cloister_retriever.parsing.kinds.opendocument import content_of, text_of, value_of
from cloister_retriever.parsing.markup import Element, children, local, stream_xml
from cloister_retriever.parsing.number_formats import plain
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.sheets import Merged, Row, Sheet, column_name

__all__ = ["open_sheets"]

_MOST_REPEATED = 1_000
"""Times that a row, or a cell, which has something in it is read: it says itself how often it stands there."""

_TABLE = re.compile(rb"<(?:\w{1,20}:)?table[ \t\r\n>]")
_TIME = re.compile(r"PT(\d{1,6})H(\d{1,2})M(\d{1,2})(?:[.,]\d{0,20})?S")


def open_sheets(package: Package) -> tuple[int, Iterator[Sheet]]:
    """How many sheets there are about, and the sheets in their order. The rows of one are read before the next.

    Raises:
        UnreadableFile: It is damaged or encrypted.
    """
    content = content_of(package)
    return len(_TABLE.findall(content)), _sheets(content)


def _sheets(content: bytes) -> Iterator[Sheet]:
    unseen: set[str] = set()
    """Styles of tables that are not shown."""

    sheet = Sheet("")
    # Damage is met while the rows of the last sheet are read.
    elements = stream_xml(content, "style", "table-column", "table-row", on_damage=lambda: sheet.damaged())
    for table, rows in itertools.groupby(elements, key=_table):
        if table is None:
            unseen |= {value_of(one, "name") or "" for one in rows if _hides_tables(one)}
            continue
        sheet = Sheet(value_of(table, "name") or "", is_hidden=(value_of(table, "style-name") or "") in unseen)
        sheet.rows = _rows(rows, sheet)
        yield sheet


def _table(element: Element) -> Element | None:
    """The sheet that something is in. What is within a cell is that cell's."""
    return next((one for one in reversed(list(element.iterancestors())) if local(one) == "table"), None)


def _hides_tables(style: Element) -> bool:
    return any(value_of(one, "display") == "false" for one in children(style) if local(one) == "table-properties")


def _rows(elements: Iterator[Element], sheet: Sheet) -> Iterator[Row]:
    number = 0
    for element in elements:
        hidden = value_of(element, "visibility") in {"collapse", "filter"}
        if local(element) != "table-row":
            sheet.hides = sheet.hides or (hidden and local(element) == "table-column")
            continue
        if any(local(one) == "table-cell" for one in element.iterancestors()):
            continue
        cells = _cells(element, number, sheet)
        times = _number(value_of(element, "number-rows-repeated"))
        for again in range(min(times, _MOST_REPEATED) if cells else 0):
            yield Row(number + again, dict(cells), hidden)
        if cells and times > _MOST_REPEATED:
            sheet.is_cut = True
        number += times


def _cells(row: Element, number: int, sheet: Sheet) -> dict[int, str]:
    cells: dict[int, str] = {}
    column = 0
    for cell in children(row):
        if local(cell) not in {"table-cell", "covered-table-cell"}:
            continue
        times = _number(value_of(cell, "number-columns-repeated"))
        text = _shown(cell) if len(cell) or cell.attrib else ""
        if text:
            cells.update((column + again, text) for again in range(min(times, _MOST_REPEATED)))
            if (high := _number(value_of(cell, "number-rows-spanned"))) > 1:
                sheet.merged.append(Merged(number, number + high - 1, column))
        for note in (one for one in children(cell) if local(one) == "annotation"):
            said = "\n".join(text_of(one) for one in note.iter() if local(one) == "p")
            sheet.comments.append((f"{column_name(column)}{number + 1}", said))
        column += times
    return cells


def _shown(cell: Element) -> str:
    """The text of a cell; where a program wrote none, its value."""
    text = "\n".join(text_of(one) for one in children(cell) if local(one) in {"p", "h"})
    if text:
        return text
    kind = value_of(cell, "value-type")
    value = value_of(cell, "value") or value_of(cell, f"{kind}-value") or ""
    if kind in {"percentage", "float", "currency"}:
        try:
            number = float(value)
        except ValueError:
            return ""
        if kind == "percentage":
            return f"{plain(number * 100)} %"
        return f"{plain(number)} {value_of(cell, 'currency') or ''}".strip()
    if kind == "time" and (time := _TIME.fullmatch(value)) is not None:
        return f"{int(time[1]):02d}:{int(time[2]):02d}:{int(time[3]):02d}"
    if kind == "boolean":
        return value.upper()
    return value.replace("T", " ") if kind == "date" else value


def _number(text: str | None) -> int:
    return max(int(text), 1) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else 1
