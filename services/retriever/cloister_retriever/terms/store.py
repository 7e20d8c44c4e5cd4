"""All that is known of a vector store's words: what is rare in it, and which passages have what is asked for."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloister_retriever.terms.postings import Postings
from cloister_retriever.terms.weights import Frequencies, TermWeights

__all__ = ["Segment", "StoreWords", "WordScores"]

_MOST_SEGMENTS = 16
"""Each costs every question some look-ups; to join them costs a sort of all their postings."""


class Segment(NamedTuple):
    """The postings of some attachments, one after another."""

    postings: Postings
    attachments: list[tuple[str, int]]
    """Each attachment, and how many passages it has."""

    @classmethod
    def joined(cls, parts: Sequence["Segment"]) -> "Segment":
        return cls(
            Postings.joined([part.postings for part in parts]), [one for part in parts for one in part.attachments]
        )


class StoreWords:
    """The words of one vector store. Safe to read from several threads.

    Args:
        segments: The postings there are.
    """

    def __init__(self, segments: Sequence[Segment] = ()) -> None:
        searchable = [segment for segment in segments if segment.postings.can_search]
        if len(searchable) > _MOST_SEGMENTS:
            others = [segment for segment in segments if not segment.postings.can_search]
            segments = [*others, Segment.joined(searchable)]
        self.segments = list(segments)

    @property
    def held_bytes(self) -> int:
        return sum(segment.postings.held_bytes for segment in self.segments)

    def frequencies(self) -> Frequencies:
        """How rare terms are, as questions are weighed by it."""
        passages = sum(segment.postings.passages for segment in self.segments)
        languages = sorted({language for segment in self.segments for language in segment.postings.languages})

        def of(terms: Sequence[int]) -> list[int]:
            ids = np.array(terms, np.uint32)
            counts = sum((segment.postings.count(ids) for segment in self.segments), np.zeros(len(ids), np.int64))
            return [int(count) for count in counts]

        return Frequencies(passages, languages, of)

    def scores(self, terms: TermWeights) -> "WordScores":
        """What each passage scores for a question, as far as it is known here which passages have a term."""
        return WordScores(
            {
                name: scores
                for segment in self.segments
                if segment.postings.can_search
                for name, scores in _by_attachment(segment, segment.postings.scores(terms))
            }
        )


class WordScores:
    """BM25 scores of a store's passages for one question, by attachment and position."""

    def __init__(self, scores: dict[str, NDArray[np.float32]]) -> None:
        self._scores = scores

    def of(self, attachment_id: str, position: int) -> float | None:
        """A passage's score, or None if its words are not known."""
        scores = self._scores.get(attachment_id)
        return None if scores is None or position >= len(scores) else float(scores[position])

    def best(self, limit: int, attachment_ids: Collection[str] | None) -> list[tuple[str, int]]:
        """Attachment and position of the best passages that have any of the words, of these attachments or of all."""
        names = [name for name in self._scores if attachment_ids is None or name in attachment_ids]
        if not names:
            return []
        scores = np.concatenate([self._scores[name] for name in names])
        starts = np.cumsum([0, *(len(self._scores[name]) for name in names)])
        rows = np.argpartition(-scores, limit)[:limit] if len(scores) > limit else np.arange(len(scores))
        rows = rows[scores[rows] > 0]
        places = np.searchsorted(starts, rows, side="right") - 1
        return [(names[place], int(row - starts[place])) for place, row in zip(places, rows, strict=True)]


def _by_attachment(segment: Segment, scores: NDArray[np.float32]) -> list[tuple[str, NDArray[np.float32]]]:
    ends = np.cumsum([passages for _, passages in segment.attachments])
    return [
        (name, scores[end - passages : end]) for (name, passages), end in zip(segment.attachments, ends, strict=True)
    ]
