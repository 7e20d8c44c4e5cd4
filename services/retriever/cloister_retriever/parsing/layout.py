"""A page as it is laid out: where its letters stand makes lines, columns, rows of tables and paragraphs.

PDF has no words and no order, only letters at places. PDFium puts letters into lines as they were drawn. Here lines are
cut where a gap is too wide for a blank, put side by side where they stand side by side, and read column by column
where a page has columns. Every step takes time that grows with the number of letters, and their sorting.
"""

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pypdfium2
import pypdfium2.raw as pdfium

__all__ = ["Block", "Line", "page_blocks"]

_HYPHEN_MARKS = frozenset({0x2, 0xFFFE})
"""What PDFium puts for a hyphen at a line's end; the next line follows at once."""

_LINE_ENDS = frozenset({0x0A, 0x0D})
_BLANKS = frozenset({0x20, 0x09, 0xA0, 0x3000})

_WIDE_GAP = 1.2
"""Between words, in heights of a line: wider ones are between cells or columns. Justified text has 0.8 at most."""

_PARAGRAPH_GAP = 0.45
"""More space than is usual between a page's lines, in heights of a line, that ends a paragraph."""

_SAME_SIZE = 1.12
_GRID = 60
_MARGIN = 0.15
"""A gutter is not in this share of a region's width at its sides."""

_COLUMN_LINES = 4
_COLUMN_CHARACTERS = 20
"""A column has so many lines, with so many characters in half of them. What is less is a table."""

_MOST_ACROSS = 0.4
"""Share of rows that may run across a gutter: titles, pictures' captions."""

_DEEPEST = 3


class Line(NamedTuple):
    """A line, and how high its letters are, in the page's units."""

    text: str
    height: float
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Left, bottom, right and top, as the page is drawn."""


Block = list[Line]
"""Lines without a gap between them: a paragraph, a table, a title."""


@dataclass
class _Fragment:
    """A part of a line without a wide gap."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    hyphen: bool = False
    """Whether a hyphen ended it, which `text` has not."""

    @property
    def height(self) -> float:
        return max(self.top - self.bottom, 0.1)


_Row = list[_Fragment]


def page_blocks(textpage: pypdfium2.PdfTextPage, *, upright: bool, is_word: Callable[[str], bool]) -> list[Block]:
    """The text of a page in the order in which it is read.

    Args:
        textpage: PDFium's.
        upright: Whether it is shown as it was drawn. Otherwise the order is that in which it was drawn.
        is_word: Whether something is a word, for words that are cut at a line's end.
    """
    lines = list(_fragments(textpage))
    if not upright or _stands_on_end(textpage):
        rows: list[_Row] = lines
    else:
        rows = _ordered([fragment for line in lines for fragment in line], _DEEPEST)
    return list(_blocks(rows, is_word))


def _fragments(textpage: pypdfium2.PdfTextPage) -> Iterator[_Row]:
    """PDFium's lines, each in parts that are far from each other."""
    raw = textpage.raw
    line = _LineOfWords(raw)
    for index in range(textpage.count_chars()):
        code = pdfium.FPDFText_GetUnicode(raw, index)
        if code in _BLANKS:
            line.end_word()
            line.has_blank = True
        elif code in _HYPHEN_MARKS or code in _LINE_ENDS:
            line.end_word(hyphen=code in _HYPHEN_MARKS)
            if line.fragments:
                yield line.fragments
            line = _LineOfWords(raw)
        elif code:
            line.add(index, chr(code))
    line.end_word()
    if line.fragments:
        yield line.fragments


class _LineOfWords:
    """One line of PDFium's while its letters come in."""

    def __init__(self, raw: object) -> None:
        self.fragments: _Row = []
        self.has_blank = False
        self._raw = raw
        self._box = pdfium.FS_RECTF()
        self._word: list[str] = []
        self._first = self._last = 0

    def add(self, index: int, letter: str) -> None:
        """A letter, by its place among the page's."""
        if not self._word:
            self._first = index
        self._last = index
        self._word.append(letter)

    def end_word(self, *, hyphen: bool = False) -> None:
        """The letters so far are a word; it begins a part of its own if it is far from the one before."""
        if not self._word:
            return
        left, bottom, _, top = self._place(self._first)
        _, _, right, _ = self._place(self._last)
        text = "".join(self._word)
        self._word.clear()
        height = max(top - bottom, 0.1)
        before = self.fragments[-1] if self.fragments else None
        if before is None or left - before.right > _WIDE_GAP * height or right < before.left - height:
            self.fragments.append(_Fragment(text, left, bottom, right, top, hyphen))
        else:
            before.text += f" {text}" if self.has_blank else text
            before.right = max(before.right, right)
            before.bottom, before.top = min(before.bottom, bottom), max(before.top, top)
            before.hyphen = hyphen
        self.has_blank = False

    def _place(self, index: int) -> tuple[float, float, float, float]:
        pdfium.FPDFText_GetLooseCharBox(self._raw, index, self._box)
        return self._box.left, self._box.bottom, self._box.right, self._box.top


def _stands_on_end(textpage: pypdfium2.PdfTextPage) -> bool:
    """Whether the first letters run in another direction than from left to right."""
    seen = min(textpage.count_chars(), 50)
    turned = sum(abs(pdfium.FPDFText_GetCharAngle(textpage.raw, index)) > 0.1 for index in range(seen))
    return bool(turned * 2 > seen)


def _ordered(fragments: Sequence[_Fragment], deepest: int) -> list[_Row]:
    """Rows from top to bottom; of columns first all of the left one, between what runs across."""
    rows = _side_by_side(fragments)
    gutter = _gutter(rows) if deepest else None
    if gutter is None:
        return rows
    done: list[_Row] = []
    left: list[_Fragment] = []
    right: list[_Fragment] = []

    def flush() -> None:
        for column in (left, right):
            done.extend(_ordered(column, deepest - 1))
            column.clear()

    for row in rows:
        if any(fragment.left < gutter < fragment.right for fragment in row):
            flush()
            done.append(row)
        else:
            for fragment in row:
                (left if fragment.right <= gutter else right).append(fragment)
    flush()
    return done


def _side_by_side(fragments: Sequence[_Fragment]) -> list[_Row]:
    """Fragments at one height are a row, whenever they were drawn."""
    rows: list[_Row] = []
    for fragment in sorted(fragments, key=lambda one: -(one.top + one.bottom)):
        beside = rows[-1][0] if rows else None
        middle = (fragment.top + fragment.bottom) / 2
        if beside is not None and beside.bottom + beside.height * 0.25 < middle < beside.top - beside.height * 0.25:
            rows[-1].append(fragment)
        else:
            rows.append([fragment])
    for row in rows:
        row.sort(key=lambda one: one.left)
    return rows


def _gutter(rows: list[_Row]) -> float | None:
    """Where a blank stripe parts two columns of text, or None."""
    fragments = [fragment for row in rows for fragment in row]
    if len(fragments) < 2 * _COLUMN_LINES:
        return None
    low, high = min(one.left for one in fragments), max(one.right for one in fragments)
    step = (high - low) / _GRID
    if step <= 0:
        return None
    change = [0] * (_GRID + 2)
    for one in fragments:
        change[min(int((one.left - low) / step) + 1, _GRID)] += 1
        change[min(int((one.right - low) / step) + 1, _GRID + 1)] -= 1
    crossed, count = [], 0
    for delta in change:
        count += delta
        crossed.append(count)
    inner = range(int(_GRID * _MARGIN), int(_GRID * (1 - _MARGIN)))
    fewest = min(crossed[at] for at in inner)
    stripes = [at for at in inner if crossed[at] == fewest]
    gutter = low + stripes[len(stripes) // 2] * step
    sides = (
        [one for one in fragments if one.right <= gutter],
        [one for one in fragments if one.left >= gutter],
    )
    across = sum(any(one.left < gutter < one.right for one in row) for row in rows)
    prose = all(
        len(side) >= _COLUMN_LINES and statistics.median(len(one.text) for one in side) >= _COLUMN_CHARACTERS
        for side in sides
    )
    return gutter if prose and across <= _MOST_ACROSS * len(rows) else None


def _blocks(rows: list[_Row], is_word: Callable[[str], bool]) -> Iterator[Block]:
    gaps = [above[0].bottom - below[0].top for above, below in itertools.pairwise(rows)]
    usual = statistics.median(gap for gap in gaps) if gaps else 0.0
    block: Block = []
    previous: _Row | None = None
    cut: str | None = None
    for row in rows:
        height = statistics.median(one.height for one in row)
        if previous is not None:
            gap = previous[0].bottom - row[0].top
            other = max(height, block[-1].height) > _SAME_SIZE * min(height, block[-1].height) if block else False
            if block and (other or gap < -height or gap > max(usual, 0) + _PARAGRAPH_GAP * height):
                if cut is not None:
                    block[-1] = block[-1]._replace(text=f"{block[-1].text}-")
                    cut = None
                yield block
                block = []
        text = _row_text(row)
        if cut is not None and block:
            start, _, rest = text.partition(" ")
            block[-1] = block[-1]._replace(text=block[-1].text + _rejoined(cut, start, is_word))
            text = rest
        if text.strip():
            block.append(Line(text, height, _box(row)))
        cut = _last_word(block[-1].text) if row[-1].hyphen and block else None
        previous = row
    if block:
        if cut is not None:
            block[-1] = block[-1]._replace(text=f"{block[-1].text}-")
        yield block


def _box(row: _Row) -> tuple[float, float, float, float]:
    return (
        min(one.left for one in row),
        min(one.bottom for one in row),
        max(one.right for one in row),
        max(one.top for one in row),
    )


def _row_text(row: _Row) -> str:
    """A row's words, with a bar between cells."""
    parts = [row[0].text]
    for before, one in itertools.pairwise(row):
        if one.text == before.text and abs(one.left - before.left) < 0.2 * one.height:
            continue  # drawn twice, as a shadow or to look bold
        parts.append(" | " if one.left - before.right > _WIDE_GAP * one.height else " ")
        parts.append(one.text)
    return "".join(parts)


def _last_word(text: str) -> str:
    at = len(text)
    while at and (text[at - 1].isalnum() or text[at - 1] in "'\u2019-"):
        at -= 1
    return text[at:]


def _rejoined(cut: str, start: str, is_word: Callable[[str], bool]) -> str:
    """What follows ``cut`` of a word that goes on with ``start``: with its hyphen, if that belongs to it."""
    rest = "".join(itertools.takewhile(str.isalnum, start))
    if not rest or not rest[0].isalpha() or "-" in cut or not cut[-1:].isalpha():
        return f"-{start}"
    if rest[0].isupper() and not cut.isupper():
        return f"-{start}"
    if not is_word(cut + rest) and is_word(cut) and is_word(rest):
        return f"-{start}"
    return start
