"""Fusing the two halves of a search into one score from 0 to 1 that means the same over queries.

`fused` weighs the cosine of the exact vectors with the share of the question's words, by their rarity, that the
passage has. Neither depends on what else was found, so a score says how good a passage is, and not only which is the
better one: a threshold on it means the same for every question.
"""

from typing import NamedTuple

__all__ = ["Weights", "fused"]


class Weights(NamedTuple):
    """What meaning and words count. Both from 0, one of them above."""

    embedding: float = 0.5
    text: float = 0.5


def fused(cosine: float, words: float | None, weights: Weights) -> float:
    """The score of a passage, from 0 to 1.

    Args:
        cosine: Of the exact vectors, from -1 to 1.
        words: The passage's BM25 score divided by `AskedTerms.most`; None where the index has no terms of it, or no
            passage of the store has any of the question's: then the cosine alone decides.
        weights: Of the two halves.
    """
    near = min(max(cosine, 0.0), 1.0)
    if words is None:
        return near
    share = min(max(words, 0.0), 1.0)
    return (weights.embedding * near + weights.text * share) / (weights.embedding + weights.text)
