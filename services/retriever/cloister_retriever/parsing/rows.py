"""Tables as text: a row is a line, and says of each value which column it stands in where the table has a head."""

from collections.abc import Iterable, Sequence

from cloister_retriever.parsing.outline import Writer

__all__ = ["line_of", "write_records", "write_rows"]

_HEAD_CHARACTERS = 60
"""A column's name is no longer."""


def line_of(cells: Iterable[str]) -> str:
    """One row: ``Ada | 36 | London``."""
    return " | ".join(" ".join(cell.split()) for cell in cells).rstrip(" |")


def write_rows(writer: Writer, rows: Iterable[Sequence[str]]) -> None:
    """A table within a text, each row as it stands there."""
    writer.apart()
    for row in rows:
        writer.line(line_of(row))
    writer.apart()


def write_records(writer: Writer, rows: Iterable[Sequence[str]]) -> None:
    """A sheet: below its head each row says what its values are, since a passage may be any of a thousand rows."""
    head: Sequence[str] | None = None
    for row in rows:
        cells = [" ".join(cell.split()) for cell in row]
        if not any(cells):
            continue
        if head is None:
            head = cells if _is_head(cells) else ()
            writer.line(line_of(cells))
        elif head and len(cells) <= len(head):
            named = (f"{name}: {cell}" if name else cell for name, cell in zip(head, cells, strict=False) if cell)
            writer.line(" | ".join(named))
        else:
            writer.line(line_of(cells))


def _is_head(cells: Sequence[str]) -> bool:
    """Whether these are names of columns: words, each another, and none a number."""
    named = [cell for cell in cells if cell]
    return (
        len(named) > 1
        and len(named) == len(set(named))
        and all(
            len(cell) <= _HEAD_CHARACTERS and not cell[0].isdigit() and any(map(str.isalpha, cell)) for cell in named
        )
    )
