"""What is asked of one vector store: every piece of every query, by meaning and by words, under the store's keys."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from cloister_retriever.index.passages import passage_name
from cloister_retriever.index.protocol import Hit, Question
from cloister_retriever.index.rotation import Rotations, Vector
from cloister_retriever.keys import EditionKeys
from cloister_retriever.search.fusion import Weights, fused
from cloister_retriever.search.scope import Scope
from cloister_retriever.terms.store import StoreWords, WordScores
from cloister_retriever.terms.weights import AskedTerms, TermKey, asked_terms, dot
from cloister_retriever.terms.words import words_of

__all__ = ["Asked", "Piece", "asked_of"]


class Piece(NamedTuple):
    """A piece of a query, as short as the embedding model reads."""

    text: str
    vector: Vector
    """Its exact unit vector."""


class _Half(NamedTuple):
    """A piece as the store is asked for it."""

    exact: Vector
    rotated: Vector
    terms: AskedTerms
    scores: WordScores
    """What passages score by their words, where the index itself does not know."""


class Asked(NamedTuple):
    """All pieces, as one store is asked for them."""

    halves: list[_Half]
    weights: Weights
    names: bytes

    def questions(
        self, *, by_words: bool, limit: int, attachment_ids: Collection[str] | None, without: Collection[str]
    ) -> list[Question]:
        """What the index is asked, for each piece: nothing of a half that has no weight or no words.

        Args:
            by_words: Whether the index finds by words itself. Else it is told which passages were found.
            limit: Of these, the most.
            attachment_ids: Of these, or None for all.
            without: Of none of these.
        """
        questions = []
        for half in self.halves:
            dense = half.rotated if self.weights.embedding else None
            terms = half.terms.weights if self.weights.text else {}
            if by_words:
                questions.append(Question(dense, terms or None))
            else:
                best = half.scores.best(limit, attachment_ids, without) if terms else []
                questions.append(Question(dense, None, [passage_name(self.names, *place) for place in best]))
        return questions

    def score(self, exact: Vector, hit: Hit) -> float:
        """The best score that a passage has for any piece."""
        return max(fused(float(half.exact @ exact), _share(half, hit), self.weights) for half in self.halves)


def asked_of(
    pieces: Sequence[Piece], words: StoreWords, seen: Scope, weights: Weights, keys: EditionKeys, rotations: Rotations
) -> Asked:
    """What a store is asked that has these words.

    Args:
        pieces: At least one.
        words: Of the store.
        seen: What of the store its caller sees: words are as rare as they are in that.
        weights: Of both halves.
        keys: Of the edition of the store.
        rotations: Makes the store's rotation.
    """
    key = TermKey(keys.terms)
    frequencies = words.frequencies(None if seen.only is None else set(seen.only), seen.without)
    rotated = rotations.rotate(keys.rotation, np.stack([piece.vector for piece in pieces]))
    halves = []
    for piece, dense in zip(pieces, rotated, strict=True):
        terms = asked_terms(key, words_of(piece.text, frequencies.languages), frequencies)
        halves.append(_Half(piece.vector, dense, terms, words.scores(terms.weights)))
    return Asked(halves, weights, keys.names)


def _share(half: _Half, hit: Hit) -> float | None:
    """The part of a question's words that a passage has, by their rarity. None where that says nothing."""
    if not half.terms.weights:
        return None
    if hit.terms is not None:
        return dot(half.terms.weights, hit.terms) / half.terms.most
    score = half.scores.of(hit.passage.attachment_id, hit.passage.position)
    return None if score is None else score / half.terms.most
