"""What is asked of one vector store: every piece of every query, by meaning and by words, under the store's keys."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cloister_retriever.index.protocol import Question
from cloister_retriever.index.rotation import Rotations, Vector
from cloister_retriever.search.fusion import Weights, fused
from cloister_retriever.terms.weights import AskedTerms, Frequencies, TermKey, TermWeights, asked_terms, dot
from cloister_retriever.terms.words import words_of

__all__ = ["Asked", "Piece", "asked_of"]


class Piece(NamedTuple):
    """A piece of a query, as short as the embedding model reads."""

    text: str
    vector: Vector
    """Its exact unit vector."""


class Asked(NamedTuple):
    """All pieces, as one store is asked for them."""

    vectors: Vector
    """Exact unit vectors, a row for each piece."""

    rotated: Vector
    terms: list[AskedTerms]
    weights: Weights

    @property
    def questions(self) -> list[Question]:
        """What the index is asked: for each piece what it weighs, and what can be asked of it."""
        return [
            Question(dense if self.weights.embedding else None, (terms.weights or None) if self.weights.text else None)
            for dense, terms in zip(self.rotated, self.terms, strict=True)
        ]

    def score(self, exact: Vector, terms: TermWeights | None) -> float:
        """The best score that a passage has for any piece."""
        return max(
            fused(float(cosine), _share(asked, terms), self.weights)
            for cosine, asked in zip(self.vectors @ exact, self.terms, strict=True)
        )


def asked_of(
    pieces: Sequence[Piece],
    frequencies: Frequencies,
    weights: Weights,
    *,
    key: TermKey,
    rotations: Rotations,
    seed: bytes,
) -> Asked:
    """What a store is asked, whose terms have these frequencies.

    Args:
        pieces: At least one.
        frequencies: Of the store's terms.
        weights: Of both halves.
        key: Of the store's terms.
        rotations: Makes the store's rotation.
        seed: Of the store's rotation.
    """
    vectors = np.stack([piece.vector for piece in pieces])
    terms = [asked_terms(key, words_of(piece.text, frequencies.languages), frequencies) for piece in pieces]
    return Asked(vectors, rotations.rotate(seed, vectors), terms, weights)


def _share(asked: AskedTerms, passage: TermWeights | None) -> float | None:
    """The part of a question's words that a passage has, by their rarity. None where that says nothing."""
    return dot(asked.weights, passage) / asked.most if asked.weights and passage is not None else None
