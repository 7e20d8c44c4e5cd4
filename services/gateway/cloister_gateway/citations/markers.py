"""Takes ``[1]`` markers out of an answer while it streams and says which passage each meant.

A marker that points at no passage is dropped: readers never see it, and nothing is cited. Text that may become a
marker is held back until it is decided, which is at most a few characters.
"""

import re
from typing import NamedTuple

__all__ = ["MarkerFilter", "Piece"]

_NUMBER = "[1-9][0-9]{0,2}"
"""Excerpts are numbered from 1: ``a[0]`` is not a marker."""
_MARKER = re.compile(rf" ?\[({_NUMBER}(?:\s?,\s?{_NUMBER}){{0,7}})\]")
_MAY_BECOME = re.compile(r" ?(?:\[[0-9\s,]{0,45})?\Z")
"""The end of a text that may go on as a marker, whose inside has at most 8 * 3 + 7 * 3 characters."""


class Piece(NamedTuple):
    """Text for the reader, then the passages (0-based) cited at its end."""

    text: str
    cited: list[int]


class MarkerFilter:
    """Filters one answer.

    Args:
        passages: How many passages the prompt had. With none, text passes unchanged: brackets mean nothing then.
    """

    def __init__(self, passages: int) -> None:
        self._passages = passages
        self._held = ""

    def feed(self, text: str) -> list[Piece]:
        """What can be shown after ``text`` came in."""
        if not self._passages:
            return [Piece(text, [])] if text else []
        buffer = self._held + text
        pieces, position = [], 0
        for match in _MARKER.finditer(buffer):
            cited = [int(number) - 1 for number in match.group(1).split(",")]
            known = [number for number in dict.fromkeys(cited) if 0 <= number < self._passages]
            pieces.append(Piece(buffer[position : match.start()], known))
            position = match.end()
        rest = buffer[position:]
        undecided = _MAY_BECOME.search(rest)
        cut = undecided.start() if undecided else len(rest)
        self._held = rest[cut:]
        if rest[:cut]:
            pieces.append(Piece(rest[:cut], []))
        return [piece for piece in pieces if piece.text or piece.cited]

    def finish(self) -> list[Piece]:
        """What was held back and did not become a marker."""
        held, self._held = self._held, ""
        return [Piece(held, [])] if held else []
