"""Takes ``[1]`` markers out of an answer while it streams and says which passage each meant.

A marker that points at no passage is dropped: readers never see it, and nothing is cited. Brackets that are no
markers stay: those in code (spans and fences, as CommonMark has them), in links, in addresses and inside other
brackets. Text that may become a marker is held back until it is decided, which is at most a few characters.
"""

import re
from typing import NamedTuple

__all__ = ["MarkerFilter", "Piece"]

_NUMBER = "[1-9][0-9]{0,2}"
"""Excerpts are numbered from 1: ``a[0]`` is not a marker."""
_TOKEN = re.compile(rf"(?P<fence>`+|~+)| ?\[(?P<numbers>{_NUMBER}(?:\s?,\s?{_NUMBER}){{0,7}})\]")
_MAY_BECOME = re.compile(r" ?(?:\[[0-9\s,]{0,45})?\Z")
"""The end of a text that may go on as a marker, whose inside has at most 8 * 3 + 7 * 3 characters."""
_BEFORE_A_FENCE = frozenset(" \t>*+-.0123456789")
"""What may stand on a line before a fence: indentation, quotes, and the bullets and numbers of lists."""
_LEAST_FENCE = 3


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
        self._code = ""
        self._line = ""
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
            self._pass_over(buffer[end : token.start()])
            end = token.end()
            if end == len(buffer) and not final:
                # What comes next decides how long the fence is, and whether the marker is the text of a link.
                return self._show(pieces, buffer, position, token.start())
            if token["fence"]:
                self._fence(token["fence"])
            elif self._is_marker(token.group(), buffer[end : end + 1]):
                cited = [int(number) - 1 for number in token["numbers"].split(",")]
                known = [number for number in dict.fromkeys(cited) if 0 <= number < self._passages]
                pieces.append(Piece(buffer[position : token.start()], known))
                position = end
                continue
            self._pass_over(token.group())
        undecided = None if final else _MAY_BECOME.search(buffer, end)
        cut = undecided.start() if undecided else len(buffer)
        self._pass_over(buffer[end:cut])
        if self._code:
            # In code, which what was just passed over may have ended, nothing becomes a marker.
            self._pass_over(buffer[cut:])
            cut = len(buffer)
        return self._show(pieces, buffer, position, cut)

    def _show(self, pieces: list[Piece], buffer: str, position: int, cut: int) -> list[Piece]:
        """The pieces, with the text from ``position`` to ``cut``; what comes after it is held back."""
        self._held = buffer[cut:]
        pieces.append(Piece(buffer[position:cut], []))
        return [piece for piece in pieces if piece.text or piece.cited]

    def _is_marker(self, brackets: str, following: str) -> bool:
        if self._code or (following and following in "(]"):
            return False
        if following == ":" and not self._line.strip():
            return False  # The definition of a link: ``[1]: https://…``.
        adjacent = "" if brackets.startswith(" ") or self._line[-1:].isspace() else self._line.rpartition(" ")[2]
        return not (adjacent.endswith(("[", "!")) or "://" in adjacent)

    def _fence(self, run: str) -> None:
        """Opens or closes code. A span closes at a run of the same length, a fence at one as long on a line's start."""
        begins_line = _BEFORE_A_FENCE.issuperset(self._line)
        if not self._code:
            is_fence = begins_line and len(run) >= _LEAST_FENCE
            if is_fence or run[0] == "`":
                self._code = "\n" + run if is_fence else run
        elif self._code[0] != "\n":
            self._code = "" if run == self._code else self._code
        elif begins_line and run.startswith(self._code[1:]):
            self._code = ""

    def _pass_over(self, text: str) -> None:
        """Keeps the line up to here. A span of code that its paragraph does not close was none."""
        first, *others = text.split("\n")
        self._line += first
        for line in others:
            if not self._line.strip() and self._code[:1] == "`":
                self._code = ""
            self._line = line
