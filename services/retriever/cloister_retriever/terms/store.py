"""All that is known of a vector store's words: what is rare in it, and which passages have what is asked for."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloister_retriever.terms.postings import Postings
from cloister_retriever.terms.tally import Tally
from cloister_retriever.terms.weights import Frequencies, TermWeights

__all__ = ["Segment", "StoreWords", "WordScores"]

_MOST_SEGMENTS = 16
"""Each costs every question some look-ups; to join them costs a sort of all their postings."""


class Segment(NamedTuple):
    """The postings of some attachments, one after another; or a tally, where it is not known which passages have a
    term."""

    postings: Postings | Tally
    attachments: list[tuple[str, int]]
    """Each attachment, and how many passages it has."""

    @property
    def can_search(self) -> bool:
        """Whether it is known in which passages a term is."""
        return isinstance(self.postings, Postings) and self.postings.can_search


class StoreWords:
    """The words of one vector store. Safe to read from several threads.

    Args:
        segments: The postings there are.
    """

    def __init__(self, segments: Sequence[Segment] = ()) -> None:
        self.segments = [
            *_joined([segment for segment in segments if not segment.can_search], Tally.joined),
            *_joined([segment for segment in segments if segment.can_search], _joined_postings),
        ]

    @property
    def held_bytes(self) -> int:
        return sum(segment.postings.held_bytes for segment in self.segments)

    def frequencies(self, attachment_ids: Collection[str] | None = None, without: Collection[str] = ()) -> Frequencies:
        """How rare terms are, as questions are weighed by it.

        Args:
            attachment_ids: In the passages of these, or None for all.
            without: And not in those of these: else whoever may not see them could tell from scores which words they
                have.
        """
        parts = [
            (segment, None if all(seen) else np.array(seen, np.bool_))
            for segment in self.segments
            if any(
                seen := [
                    (attachment_ids is None or name in attachment_ids) and name not in without
                    for name, _ in segment.attachments
                ]
            )
        ]
        sizes = [np.array([size for _, size in segment.attachments]) for segment, _ in parts]
        passages = sum(
            int((has if seen is None else has[seen]).sum()) for (_, seen), has in zip(parts, sizes, strict=True)
        )
        languages = sorted({language for segment, _ in parts for language in segment.postings.languages})
        counted = [
            (segment.postings, np.repeat(seen, has) if segment.can_search and seen is not None else seen)
            for (segment, seen), has in zip(parts, sizes, strict=True)
        ]

        def of(terms: Sequence[int]) -> list[int]:
            ids = np.array(terms, np.uint32)
            counts = sum((postings.count(ids, seen) for postings, seen in counted), np.zeros(len(ids), np.int64))
            return [int(count) for count in counts]

        return Frequencies(passages, languages, of)

    def scores(self, terms: TermWeights) -> "WordScores":
        """What each passage scores for a question, as far as it is known here which passages have a term."""
        return WordScores(
            {
                name: scores
                for segment in self.segments
                if isinstance(segment.postings, Postings) and segment.can_search
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

    def best(
        self, limit: int, attachment_ids: Collection[str] | None, without: Collection[str] = ()
    ) -> list[tuple[str, int]]:
        """Attachment and position of the best passages that have any of the words, of these attachments or of all, and
        of none of those ``without``."""
        names = [
            name for name in self._scores if (attachment_ids is None or name in attachment_ids) and name not in without
        ]
        if not names:
            return []
        scores = np.concatenate([self._scores[name] for name in names])
        starts = np.cumsum([0, *(len(self._scores[name]) for name in names)])
        rows = np.argpartition(-scores, limit)[:limit] if len(scores) > limit else np.arange(len(scores))
        rows = rows[scores[rows] > 0]
        places = np.searchsorted(starts, rows, side="right") - 1
        return [(names[place], int(row - starts[place])) for place, row in zip(places, rows, strict=True)]


def _joined(
    segments: Sequence[Segment], join: Callable[[Sequence[Postings | Tally]], Postings | Tally]
) -> list[Segment]:
    """The segments of one sort, as few of them."""
    if len(segments) <= _MOST_SEGMENTS:
        return list(segments)
    attachments = [one for segment in segments for one in segment.attachments]
    return [Segment(join([segment.postings for segment in segments]), attachments)]


def _joined_postings(parts: Sequence[Postings | Tally]) -> Postings:
    return Postings.joined([part for part in parts if isinstance(part, Postings)])


def _by_attachment(segment: Segment, scores: NDArray[np.float32]) -> list[tuple[str, NDArray[np.float32]]]:
    ends = np.cumsum([passages for _, passages in segment.attachments])
    return [
        (name, scores[end - passages : end]) for (name, passages), end in zip(segment.attachments, ends, strict=True)
    ]
