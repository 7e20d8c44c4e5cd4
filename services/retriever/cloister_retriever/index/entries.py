"""Passages on their way into an index: their vectors, their terms, and both with the sealed passage as an entry."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.errors import InvalidRequest
from cloister_common.wire.embeddings import InputType

from cloister_retriever.index.passages import Passage, PassageOwner, seal_passage
from cloister_retriever.index.protocol import Entry
from cloister_retriever.index.rotation import Rotations, Vector, normalised
from cloister_retriever.keys import PassageKeys
from cloister_retriever.terms.weights import TermKey, TermWeights, passage_terms
from cloister_retriever.terms.words import words_of

__all__ = ["entries_of", "terms_of", "vectors_of"]

_INPUT = re.compile(r"input\[(\d+)\]")


async def vectors_of(
    embedder: EmbedderClient,
    texts: Sequence[str],
    *,
    model: str,
    input_type: InputType,
    bulk: bool = False,
    count: Callable[[int], None] = lambda _: None,
) -> Vector:
    """Exact unit vectors, a row for each text.

    A text that is longer than the model reads has the mean of its halves' vectors, as often as it takes: passages were
    cut for the model that they were first embedded with, and another one may read less. ``count`` is told of the tokens
    that the embedder counted.

    Raises:
        CloisterError: As `EmbedderClient.embed`; a text of one word that is too long is an `InvalidRequest`.
    """
    pieces = [[text] for text in texts]
    while True:
        flat = [piece for of_text in pieces for piece in of_text]
        try:
            embedded = await embedder.embed(flat, bulk=bulk, input_type=input_type, model=model)
            break
        except InvalidRequest as error:
            place = _INPUT.fullmatch(error.param or "")
            if place is None or not _halve(pieces, int(place[1])):
                raise
    count(embedded.tokens)
    exact = normalised(np.frombuffer(b"".join(embedded.vectors), dtype="<f4").reshape(len(flat), -1))
    if len(flat) == len(texts):
        return exact
    starts = np.cumsum([0, *(len(of_text) for of_text in pieces)])
    return normalised(np.stack([exact[start:end].mean(axis=0) for start, end in pairwise(starts)]))


def terms_of(keys: PassageKeys, passages: Sequence[Passage], language: str, file_name: str) -> list[TermWeights]:
    """What passages are found by: their words, and those of their headings and of the file's name."""
    key = TermKey(keys.terms)
    around = [f"{file_name}\n{passage.section or ''}\n" for passage in passages]
    return [
        passage_terms(key, words_of(before + passage.text, [language]))
        for before, passage in zip(around, passages, strict=True)
    ]


def entries_of(
    keys: PassageKeys,
    owner: PassageOwner,
    rotations: Rotations,
    passages: Sequence[Passage],
    exact: Vector,
    terms: Sequence[TermWeights],
) -> list[Entry]:
    """The entries of passages with these exact vectors and terms."""
    rotated = rotations.rotate(keys.rotation, exact)
    sealed = (seal_passage(keys, owner, *of) for of in zip(passages, exact, strict=True))
    return [Entry(*of) for of in zip(sealed, rotated.tolist(), terms, strict=True)]


def _halve(pieces: list[list[str]], index: int) -> bool:
    """Cuts the piece that is the ``index``-th of all in two, between words; whether it could."""
    for of_text in pieces:
        if index >= len(of_text):
            index -= len(of_text)
            continue
        words = of_text[index].split()
        if len(words) < 2:
            return False
        middle = len(words) // 2
        of_text[index : index + 1] = [" ".join(words[:middle]), " ".join(words[middle:])]
        return True
    return False
