"""Rows of tables: each says something by itself, with what stands over its columns, and nothing with the next one."""

import re

__all__ = ["is_row", "read_rows"]

_ROW = re.compile(r"\s*\|(.*)\|\s*")
_RULE = re.compile(r"[\s|:-]*-[\s|:-]*")
_BETWEEN_CELLS = re.compile(r"\S\s+\|\s+\S")


def is_row(text: str) -> bool:
    """Whether a line is a row: Markdown's, or ``Region: North | Revenue: 12``, as spreadsheets are read."""
    return _BETWEEN_CELLS.search(text) is not None


def read_rows(lines: list[str]) -> list[str]:
    """The lines of a passage as they are compared: of Markdown's rows each cell behind the name of its column."""
    read = list(lines)
    names: list[str] = []
    for place, line in enumerate(lines):
        cells = _cells(line)
        if cells is None:
            names = []
        elif place + 1 < len(lines) and _RULE.fullmatch(lines[place + 1]):
            names = cells
        elif len(names) == len(cells):
            read[place] = " | ".join(f"{name}: {cell}" for name, cell in zip(names, cells, strict=True) if cell)
    return read


def _cells(line: str) -> list[str] | None:
    row = _ROW.fullmatch(line)
    return None if row is None else [cell.strip() for cell in row[1].split("|")]
