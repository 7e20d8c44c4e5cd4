"""Where the sentences of a text begin and end."""

import re

from cloister_gateway.grounding.evidence.units import MONTHS
from cloister_gateway.grounding.evidence.words import fold, words_of

__all__ = ["sentences"]

_END = re.compile(r"(?<=[.!?…。！？])[\"'”’»)\]]*\s+|\n+")
_ABBREVIATIONS = words_of(
    "dr prof mr mrs ms st no nr fig vs etc approx bzw ca z.b d.h u.a inkl ggf abs art hr fr mme m e.g i.e p.m a.m jr "
    "sr mio mrd tel str max min ул г стр т.е т.д"
)


def sentences(text: str) -> list[tuple[int, int]]:
    """The sentences of a text, as places of their first character and of the one after their last.

    A line's end ends one, and so does a full stop, but not behind an abbreviation, an initial or an ordinal
    (``3. Mai``).
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for gap in _END.finditer(text):
        if "\n" not in gap.group() and _goes_on(text, start, gap.start(), gap.end()):
            continue
        if text[start : gap.start()].strip():
            spans.append((start, gap.end() if gap.group().strip() else gap.start()))
        start = gap.end()
    if text[start:].strip():
        spans.append((start, len(text)))
    return spans


def _goes_on(text: str, start: int, end: int, following: int) -> bool:
    if text[end - 1 : end] != ".":
        return False
    last = text[start:end].split()[-1].rstrip(".").lstrip("(\"'„«").casefold()
    if last in _ABBREVIATIONS or (len(last) == 1 and last.isalpha()):
        return True
    if last.isdigit() and len(last) <= 2:
        # An ordinal in German: "am 3. Mai". A sentence that ends with a number goes on with a new one's capital too.
        return text[following : following + 1].islower() or _is_month(text[following:])
    return text[following : following + 1].islower()


def _is_month(text: str) -> bool:
    word = re.match(r"[^\W\d_]+", text)
    return word is not None and fold(word.group()) in MONTHS
