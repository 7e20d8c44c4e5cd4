"""Finds the passage behind a sentence that the model did not mark.

Small models forget markers. So each sentence of the answer that ends without one is compared with the passages: the
best by cosine of their embeddings is cited, if it is close enough. This is attribution by similarity, and only among
passages that the prompt really had.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

__all__ = ["Attribution", "attribute"]

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_LEAST_COSINE = 0.55
"""MiniLM puts a sentence and the passage it was taken from at 0.6 and more, unrelated ones below 0.3."""
_LEAST_CHARACTERS = 16
_MOST_SENTENCES = 48
_MOST_CHARACTERS = 600
"""Sentences and passages are compared by this much of them, so that none is over the embedder's limit."""


class Attribution(NamedTuple):
    """A citation found by similarity."""

    passage: int
    end: int


async def attribute(text: str, passages: Sequence[str], *, marked: Sequence[int], embed: Embed) -> list[Attribution]:
    """Citations for the sentences of ``text`` without a marker.

    Args:
        text: The whole answer.
        passages: The texts of the passages.
        marked: Character positions at which the model itself has cited.
        embed: Gives a unit vector for each text.

    Returns:
        In order of the text; ``end`` is the end of the sentence, in characters. Runs of sentences with the same
        passage are cited once, at their end.
    """
    sentences = [
        (place, start, end)
        for place, (start, end) in enumerate(_sentences(text))
        if end - start >= _LEAST_CHARACTERS and not any(start < position <= end for position in marked)
    ][:_MOST_SENTENCES]
    if not sentences or not passages:
        return []
    texts = [text[start:end][:_MOST_CHARACTERS] for _, start, end in sentences]
    windows = [(number, window) for number, passage in enumerate(passages) for window in _windows(passage)]
    vectors = await embed([*texts, *(window for _, window in windows)])
    found: list[tuple[int, Attribution]] = []
    for (place, _, end), vector in zip(sentences, vectors, strict=False):
        scores = [
            (_dot(vector, other), number) for (number, _), other in zip(windows, vectors[len(texts) :], strict=True)
        ]
        score, number = max(scores)
        if score < _LEAST_COSINE:
            continue
        if found and found[-1][0] == place - 1 and found[-1][1].passage == number:
            found.pop()
        found.append((place, Attribution(number, end)))
    return [attribution for _, attribution in found]


def _sentences(text: str) -> list[tuple[int, int]]:
    spans, start = [], 0
    for gap in _SENTENCE_END.finditer(text):
        spans.append((start, gap.start()))
        start = gap.end()
    spans.append((start, len(text)))
    return spans


def _windows(passage: str) -> list[str]:
    return [passage[at : at + _MOST_CHARACTERS] for at in range(0, max(len(passage), 1), _MOST_CHARACTERS)][:4]


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
