"""Keyed terms and their BM25 weights: the one form in which words leave the text that they stand in.

A term's id is the first four bytes of an HMAC under the vector store's key for terms. Without the key nobody can tell
whether a word is in a passage, and the same word has another id in every store. At rest the ids are sealed besides.

The weights are BM25's (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009), divided
between the two sides of an inner product. A passage's is the saturated frequency, against a stated average length, so
that it never changes when other passages come; a question's is the inverse document frequency of the moment. The inner
product of both is the passage's BM25 score.
"""

import hashlib
import hmac
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cloister_retriever.terms.words import Word

__all__ = ["AskedTerms", "Frequencies", "TermKey", "TermWeights", "asked_terms", "dot", "passage_terms"]

TermWeights = dict[int, float]
"""A sparse vector: what weight the terms have, by their ids (32 bits without a sign)."""

_K1 = 1.2
_B = 0.75
_AVERAGE_WORDS = 110
"""Of a passage of 200 tokens, the default length. Measured: k1, b and this change nDCG@10 by less than 0.005."""

_PIECES_SHARE = 0.5
"""What the pieces of a word count together, beside the word itself."""


_LARGE = 1000
"""Passages from which on a term that more than half of them have is not looked for: it says next to nothing, and is
most of what a search would add up."""


class TermKey:
    """Gives terms their ids. Safe to share between threads.

    Args:
        key: The store's subkey ``terms``, 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def id_of(self, term: str) -> int:
        """The id of a term of `Word`."""
        return int.from_bytes(hmac.digest(self._key, term.encode(), hashlib.sha256)[:4], "little")


class Frequencies(NamedTuple):
    """In how many passages of a store terms are."""

    passages: int
    languages: Sequence[str]
    """In which the passages' words were stemmed."""

    of: Callable[[Sequence[int]], list[int]]
    """How many passages have each of some terms, by their ids."""


class AskedTerms(NamedTuple):
    """The keyword half of a question."""

    weights: TermWeights
    most: float
    """What a passage of average length scores that has every word of the question once: the unit of shares."""


def passage_terms(key: TermKey, words: Sequence[Word]) -> TermWeights:
    """The sparse vector of a passage."""
    counts = Counter(term for word in words for term in word.terms)
    counts.update(piece for word in words for piece in word.pieces)
    shortness = _K1 * (1 - _B + _B * len(words) / _AVERAGE_WORDS)
    return {key.id_of(term): count * (_K1 + 1) / (count + shortness) for term, count in counts.items()}


def asked_terms(key: TermKey, words: Sequence[Word], frequencies: Frequencies) -> AskedTerms:
    """The sparse vector of a question. Empty where no passage has any of its words or pieces.

    A word that was stemmed in several languages has its weight by the rarest of its stems that are there at all. A
    word's pieces share a part of what the word counts.
    """
    distinct = list(dict.fromkeys(words))
    ids = {term: key.id_of(term) for word in distinct for term in (*word.terms, *word.pieces)}
    counts = dict(zip(ids, frequencies.of(list(ids.values())), strict=True))
    rarities = {term: _rarity(frequencies.passages, count) for term, count in counts.items()}
    weights: TermWeights = {}
    most = 0.0
    for word in distinct:
        there = [term for term in word.terms if counts[term]]
        for term in there:
            if rarities[term]:
                weights[ids[term]] = rarities[term]
        # A date in another form than the store's is one way more to find, and no lack where it finds nothing.
        if there or not word.is_date:
            most += max(rarities[term] for term in there or word.terms)
        for piece in set(word.pieces):
            if counts[piece] and rarities[piece]:
                share = _PIECES_SHARE * rarities[piece] / len(word.pieces)
                weights[ids[piece]] = weights.get(ids[piece], 0.0) + share
                most += share
    return AskedTerms(weights, most)


def dot(asked: TermWeights, passage: TermWeights) -> float:
    """The inner product: a passage's BM25 score."""
    return sum(weight * passage[term] for term, weight in asked.items() if term in passage)


def _rarity(passages: int, count: int) -> float:
    """The inverse document frequency, as Lucene has it; of what a large store has almost everywhere nothing."""
    if passages < count or (passages >= _LARGE and 2 * count > passages):
        return 0.0
    return math.log(1 + (passages - count + 0.5) / (count + 0.5))
