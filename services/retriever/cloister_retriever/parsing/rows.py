"""Tables as text: a row is a line, and says of each value which column it stands in where the table has a head."""

from collections.abc import Iterable, Mapping, Sequence

from cloister_retriever.parsing.outline import Writer

__all__ = ["line_of", "write_records", "write_rows"]

_HEAD_CHARACTERS = 60
"""A column's name is no longer."""

_MOST_ABOVE = 20
"""Lines of a single value that may stand above a table's head: its title, who made it and when."""


def line_of(cells: Iterable[str]) -> str:
    """One row: ``Ada | 36 | London``."""
    return " | ".join(" ".join(cell.split()) for cell in cells).rstrip(" |")


def write_rows(writer: Writer, rows: Iterable[Sequence[str]]) -> None:
    """A table within a text, each row as it stands there."""
    writer.apart()
    for row in rows:
        writer.line(line_of(row))
    writer.apart()


def write_records(writer: Writer, rows: Iterable[Mapping[int, str]]) -> None:
    """A sheet: below its head each row says what its values are, since a passage may be any of a thousand rows.

    Args:
        writer: Writes them.
        rows: What is in each column. An empty row may be the end of a table, with another one below it.
    """
    table = _Table()
    for row in rows:
        cells = {column: joined for column in sorted(row) if (joined := " ".join(row[column].split()))}
        if not cells:
            table.is_behind_gap = True
        elif table.begins_with(cells):
            table = _Table(cells)
            writer.apart()
            writer.line(" | ".join(cells.values()))
        else:
            writer.line(table.record(cells))


class _Table:
    """The table that rows belong to: what its columns are called, if it has a head."""

    def __init__(self, head: Mapping[int, str] | None = None) -> None:
        self.is_behind_gap = False
        self._head = head or {}
        self._is_open = head is None
        """Whether only lines of a single value were seen, so that the next may be the head."""

        self._above = 0
        self._titled = False
        self._numbers: set[int] = set()
        """Columns that the last row has a number in."""

    def begins_with(self, cells: Mapping[int, str]) -> bool:
        """Whether a row is the head of a table, this one's or one that begins below it."""
        if not _is_head(list(cells.values())):
            return False
        if self._is_open:
            return True
        # Below a table of words another row of words is a row of it, unless something sets it apart.
        return self.is_behind_gap and (
            self._titled
            or not cells.keys() <= self._head.keys()
            or any(column in self._numbers for column in cells)
            or cells == self._head
        )

    def record(self, cells: Mapping[int, str]) -> str:
        """A row that is no head."""
        if len(cells) == 1:
            self._above += 1
            self._is_open = self._is_open and self._above <= _MOST_ABOVE
            self._titled = self._titled or self.is_behind_gap
        else:
            self._is_open = self.is_behind_gap = self._titled = False
            self._numbers = {column for column, cell in cells.items() if not any(map(str.isalpha, cell))}
        head = self._head
        return " | ".join(f"{head[column]}: {cell}" if column in head else cell for column, cell in cells.items())


def _is_head(named: Sequence[str]) -> bool:
    """Whether these are names of columns: words, each another, and none a number."""
    return (
        len(named) > 1
        and len(named) == len(set(named))
        and all(
            len(cell) <= _HEAD_CHARACTERS and not cell[0].isdigit() and any(map(str.isalpha, cell)) for cell in named
        )
    )
