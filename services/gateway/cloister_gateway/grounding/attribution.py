"""Which passages an answer may cite, and with which of their words.

Models cite what is not there, and small ones forget to cite at all. So each sentence of an answer is held against the
passages of its prompt (`cloister_gateway.grounding.evidence.support`), those first that the model has marked: what a
passage supports is cited, with the words that do, and a marker for which nothing speaks is none. What can be said in
other words is compared by the vectors of the sentence and of the evidence, where there is an embedder to ask.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from cloister_common.errors import InvalidRequest

from cloister_gateway.grounding.evidence import Evidence, Reading, Support, sentences
from cloister_gateway.grounding.excerpts import Passage

__all__ = ["Attribution", "Mark", "attribute"]

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]

_LEAST = 0.95
"""Of share and cosine together. In sentences of several languages about given passages, true ones have 0.97 and more
with MiniLM, and sentences about something else that share a value 0.86 and less."""
_LEAST_SHARE_ALONE = 0.6
"""Where no vectors can be compared."""
_LEAST_CHARACTERS = 16
"""Of a sentence without a marker: shorter ones say nothing that needs a source."""
_MOST_CHARACTERS = 600
"""Of one: what is longer is a table, or data, and would take the event loop's time."""
_MOST_SENTENCES = 64
_PIECES = (600, 200)
"""Evidence is embedded up to this many characters, of the first that the embedder takes: prose has a token for four,
but tables of figures and East Asian writing have one for each, and MiniLM reads 256."""
_MOST_QUOTED = 1_000
"""Characters of a quote: a table without sentences is one."""
_FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,}).*?(?:^[ \t>]*\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_LIST = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)]|#{1,6})\s+")


class Mark(NamedTuple):
    """A marker of the model: what it cites, and where it stood."""

    passage: int
    at: int


class Attribution(NamedTuple):
    """A citation.

    Attributes:
        passage: The number of the passage, from 0.
        at: The place in the text, in characters: the marker's, or the end of the sentence.
        quote: The words of the passage.
    """

    passage: int
    at: int
    quote: str


class _Sentence(NamedTuple):
    reading: Reading
    place: int
    end: int
    marks: list[Mark]


async def attribute(
    text: str, passages: Sequence[Passage], *, marks: Sequence[Mark], embed: Embed | None, cited: Sequence[int] = ()
) -> list[Attribution]:
    """The citations of ``text``.

    Args:
        text: The whole answer, without markers.
        passages: Those of its prompt.
        marks: Where the model has cited.
        embed: Gives a unit vector for each text. Without it only what is said in the same words is cited. Raises
            `InvalidRequest` if a text is too long.
        cited: Where it is cited already: those sentences are left as they are.

    Returns:
        In order of the text. Neighbouring sentences without a marker that have the same source are cited once, at
        their end.
    """
    claims = _claims(text, marks, cited)
    if not claims or not passages:
        return []
    supports = [
        Support(passage.text, " ".join(part for part in (passage.filename, passage.section) if part))
        for passage in passages
    ]
    found: list[list[tuple[int, Evidence]]] = []
    for claim in claims:
        some = [(number, support.evidence(claim.reading)) for number, support in enumerate(supports)]
        found.append([(number, one) for number, one in some if one is not None])
        # Each takes milliseconds, and others' tokens shall not wait for all of them.
        await asyncio.sleep(0)
    scores = await _scores(claims, found, embed)
    citations: list[Attribution] = []
    # The sentence and the passage of the last citation, if the model has not marked it.
    last: tuple[int, int] | None = None
    for claim, evidence, likely in zip(claims, found, scores, strict=True):
        good = {number: (score, one.quote) for (number, one), score in zip(evidence, likely, strict=True) if score}
        marked = [mark for mark in dict.fromkeys(claim.marks) if mark.passage in good]
        if marked:
            citations += [Attribution(*mark, _cut(good[mark.passage][1])) for mark in marked]
        elif good:
            number = max(good, key=lambda one: good[one][0])
            index, quote = claim.marks[-1].at if claim.marks else claim.end, good[number][1]
            if last == (claim.place - 1, number) and not claim.marks:
                before = citations.pop().quote
                quote = before if quote in before else f"{before} … {quote}"
            citations.append(Attribution(number, index, _cut(quote)))
            last = None if claim.marks else (claim.place, number)
    return citations


def _cut(quote: str) -> str:
    return quote if len(quote) <= _MOST_QUOTED else f"{quote[:_MOST_QUOTED]}…"


def _claims(text: str, marks: Sequence[Mark], cited: Sequence[int]) -> list[_Sentence]:
    """The sentences of an answer that may have a source, each with the markers in it and directly behind it."""
    code = [match.span() for match in _FENCE.finditer(text)]
    spans = [
        (start, end) for start, end in sentences(text) if not any(first < end and start < last for first, last in code)
    ]
    claims: list[_Sentence] = []
    for place, (start, end) in enumerate(spans):
        following = spans[place + 1][0] if place + 1 < len(spans) else len(text) + 1
        # A marker behind the full stop still means the sentence before it.
        first = start if place else -1
        mine = [mark for mark in marks if first < mark.at <= end or end < mark.at <= min(following, end + 2)]
        said = text[start:end].replace("**", "").replace("__", "")
        listed = _LIST.match(said)
        said = said[listed.end() :] if listed else said
        if any(first < index <= end for index in cited):
            continue
        if len(said) <= _MOST_CHARACTERS and (mine or len(said) >= _LEAST_CHARACTERS):
            claims.append(_Sentence(Reading(said), place, end, mine))
    return claims[:_MOST_SENTENCES]


async def _scores(
    claims: Sequence[_Sentence], found: Sequence[Sequence[tuple[int, Evidence]]], embed: Embed | None
) -> list[list[float | None]]:
    """How good each piece of evidence is; None if it is not good enough."""
    if embed is None:
        return [[one.share if one.share >= _LEAST_SHARE_ALONE else None for _, one in evidence] for evidence in found]
    vectors = await _vectors(claims, found, embed)
    scores: list[list[float | None]] = []
    for claim, evidence in zip(claims, found, strict=True):
        some = [one.share + _dot(vectors[claim.reading.text], vectors[one.quote]) for _, one in evidence]
        scores.append([score if score >= _LEAST else None for score in some])
    return scores


async def _vectors(
    claims: Sequence[_Sentence], found: Sequence[Sequence[tuple[int, Evidence]]], embed: Embed
) -> dict[str, Sequence[float]]:
    texts: dict[str, None] = {}
    for claim, evidence in zip(claims, found, strict=True):
        if evidence:
            texts |= dict.fromkeys([claim.reading.text, *(one.quote for _, one in evidence)])
    if not texts:
        return {}
    for length in _PIECES:
        try:
            return dict(zip(texts, await embed([text[:length] for text in texts]), strict=True))
        except InvalidRequest:
            if length == _PIECES[-1]:
                raise
    raise AssertionError("unreachable")


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
