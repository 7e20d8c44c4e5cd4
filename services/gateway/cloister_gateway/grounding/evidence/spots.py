"""Cuts a text into words, numbers and signs."""

import re
from typing import NamedTuple

from cloister_gateway.grounding.evidence.units import MULTIPLIERS, UNITS
from cloister_gateway.grounding.evidence.words import fold

__all__ = ["DAY_HALVES", "Spot", "spots"]

_SPOT = re.compile(
    r"""
      (?P<date>\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}\.\s?\d{1,2}\.\s?\d{4}\b|\b\d{1,2}/\d{1,2}/\d{4}\b)
    | (?P<time>\b\d{1,2}:\d{2}(?!\d)(?!:))
    | (?P<code>\b\d+(?:\.\d+){2,40}\b
        |(?<![\w.])(?=[\w./-]{0,80}[^\W\d_])(?=[\w./-]{0,80}\d)[^\W_]+(?:[-_/.][^\W_]+){0,40}\b)
    | (?P<letter>(?<=[^\W\d_]{3}[ ])(?:[A-HJ-Z]|II|III|IV|VI{0,3}|IX|XI{0,3})\b(?![.'’]))
    | (?P<number>(?<![\w.])\d{1,3}(?:(?P<gap>[ \u00a0\u202f'’.,])\d{3})(?:(?P=gap)\d{3}){0,9}(?:[.,]\d+)?(?!\d)
        |\d+(?:[.,]\d+)?)
    | (?P<word>[^\W\d_]+(?:['’-][^\W\d_]+){0,40})
    | (?P<sign>°\s?[CF]\b|[^\w\s])
    """,
    re.VERBOSE,
)
_GLUED = re.compile(r"(\d+(?:[.,]\d+)?)(-?)([^\W\d_]+(?:-[^\W\d_]+){0,40})\Z")
_ORDINAL_ENDINGS = frozenset({"st", "nd", "rd", "th", "er", "ere", "e", "eme", "й", "го", "я", "ый", "ая"})
DAY_HALVES = {"am": 0, "a.m": 0, "pm": 720, "p.m": 720}


class Spot(NamedTuple):
    """A piece of a text that is looked at as one: a word, a number, a sign."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def folded(self) -> str:
        """Without case and accents."""
        return fold(self.text)


def spots(text: str) -> list[Spot]:
    """The words, numbers and signs of a text. What stands together as ``20mg``, ``14-day`` or ``1er`` comes apart."""
    found: list[Spot] = []
    for match in _SPOT.finditer(text):
        kind = match.lastgroup or "sign"
        kind = {"gap": "number", "letter": "code"}.get(kind, kind)
        start, end = match.span()
        glued = _GLUED.match(match.group()) if kind == "code" else None
        if glued and _comes_apart(glued):
            middle = start + glued.end(1)
            found.append(Spot("number", glued[1], start, middle))
            if fold(glued[3]) not in _ORDINAL_ENDINGS:
                found.append(Spot("word", glued[3], middle + len(glued[2]), end))
            continue
        found.append(Spot(kind, match.group(), start, end))
    return found


def _comes_apart(glued: re.Match[str]) -> bool:
    word = fold(glued[3])
    if glued[2]:
        return len(word) > 2
    return word in UNITS or word in _ORDINAL_ENDINGS or word in DAY_HALVES or word in MULTIPLIERS
