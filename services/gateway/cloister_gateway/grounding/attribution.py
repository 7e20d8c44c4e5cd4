"""Finds the passage behind a sentence that the model did not mark.

Small models forget markers. So each sentence of the answer that ends without one is compared with the passages: the
best by cosine of their embeddings is cited, if it is close enough. This is attribution by similarity, and only among
passages that the prompt really had.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from cloister_common.errors import InvalidRequest

__all__ = ["Attribution", "attribute"]

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_LEAST_COSINE = 0.55
"""MiniLM puts a sentence and the passage it was taken from at 0.6 and more, unrelated ones below 0.3."""
_LEAST_CHARACTERS = 16
_MOST_SENTENCES = 48
_PIECE_CHARACTERS = (600, 200)
"""Sentences and passages are compared in pieces of this length, of the first that the embedder takes. Prose has a token
for four characters, but tables of figures and East Asian writing have one for each, and MiniLM reads 256."""
_PASSAGE_CHARACTERS = 2_400
"""A passage is compared by this much of it."""


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
        embed: Gives a unit vector for each text. Raises `InvalidRequest` if one is too long.

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
    for length in _PIECE_CHARACTERS:
        texts = [text[start:end][:length] for _, start, end in sentences]
        windows = [(number, window) for number, passage in enumerate(passages) for window in _windows(passage, length)]
        try:
            vectors = await embed([*texts, *(window for _, window in windows)])
            break
        except InvalidRequest:
            if length == _PIECE_CHARACTERS[-1]:
                raise
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


def _windows(passage: str, length: int) -> list[str]:
    compared = passage[:_PASSAGE_CHARACTERS]
    return [compared[at : at + length] for at in range(0, max(len(compared), 1), length)]


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
