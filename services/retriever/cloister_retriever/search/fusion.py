"""Fusing the two halves of a search into one score from 0 to 1 that means the same over queries.

A score is a weighed mean of two numbers. One is the cosine of the exact vectors, 0 where it is less. The other is the
share of the question's words that the passage has, each word by its rarity in the store: its BM25 score, divided by
what a passage of average length has with every word of the question once. Neither depends on what else was found. So
0.5 says as much of one question's passage as of another's, and a threshold can be set once; ranks, or scores stretched
between the best and the worst that were found, would rank about as well and say nothing alone.

Measured on mtrag-mini (last turn; last turn and last three), nDCG@10: BM25 .756, cosine .758; reciprocal ranks .817
and .893; stretched scores .832 and .891; these .834 and .914. In German, Russian and Spanish, which the bundled
model does not know, the words alone are as good as both (.69, .61, .62), and meaning alone far behind (.51, .30, .44):
so words weigh a little more than is best for English.
"""

from typing import NamedTuple

__all__ = ["Weights", "fused"]


class Weights(NamedTuple):
    """What meaning and words count. Both from 0, one of them above."""

    embedding: float = 0.6
    text: float = 0.4


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
