"""Takes ``[1]`` markers out of an answer while it streams and says which passage each meant.

A marker that points at no passage is dropped: readers never see it, and nothing is cited. Brackets that are no
markers stay (`cloister_gateway.grounding.surroundings`). Text that may become a marker is held back until it is
decided, which is at most a few characters.
"""

import re
from typing import NamedTuple

from cloister_gateway.grounding.surroundings import Surroundings

__all__ = ["MarkerFilter", "Piece"]

_NUMBER = "[1-9][0-9]{0,2}"
"""Excerpts are numbered from 1: ``a[0]`` is not a marker."""
_TOKEN = re.compile(rf"(?P<fence>`+|~+)| ?\[(?P<numbers>{_NUMBER}(?:\s?,\s?{_NUMBER}){{0,7}})\]")
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
        seen: What readers have seen of the answer already, where it is continued.
    """

    def __init__(self, passages: int, seen: str = "") -> None:
        self._passages = passages
        self._held = ""
        self._around = Surroundings()
        self._feed(seen, final=True)

    def feed(self, text: str) -> list[Piece]:
        """What can be shown after ``text`` came in."""
        return self._feed(text, final=False)

    def finish(self) -> list[Piece]:
        """What was held back, as nothing follows it."""
        return self._feed("", final=True)

    def _feed(self, text: str, *, final: bool) -> list[Piece]:
        buffer, self._held = self._held + text, ""
        if not self._passages:
            return [Piece(buffer, [])] if buffer else []
        pieces: list[Piece] = []
        position = end = 0
        while (token := _TOKEN.search(buffer, end)) is not None:
            self._around.pass_over(buffer[end : token.start()])
            end = token.end()
            if end == len(buffer) and not final:
                # What comes next decides how long the fence is, and whether the marker is the text of a link.
                return self._show(pieces, buffer, position, token.start())
            if token["fence"]:
                self._around.fence(token["fence"])
            elif self._around.may_be_marker(token.group(), buffer[end : end + 1]):
                cited = [int(number) - 1 for number in token["numbers"].split(",")]
                known = [number for number in dict.fromkeys(cited) if 0 <= number < self._passages]
                pieces.append(Piece(buffer[position : token.start()], known))
                position = end
                self._around.pass_marker()
                continue
            self._around.pass_over(token.group())
        undecided = None if final else _MAY_BECOME.search(buffer, end)
        cut = undecided.start() if undecided else len(buffer)
        self._around.pass_over(buffer[end:cut])
        if self._around.code:
            # In code, which what was just passed over may have ended, nothing becomes a marker.
            self._around.pass_over(buffer[cut:])
            cut = len(buffer)
        return self._show(pieces, buffer, position, cut)

    def _show(self, pieces: list[Piece], buffer: str, position: int, cut: int) -> list[Piece]:
        """The pieces, with the text from ``position`` to ``cut``; what comes after it is held back."""
        self._held = buffer[cut:]
        pieces.append(Piece(buffer[position:cut], []))
        return [piece for piece in pieces if piece.text or piece.cited]
