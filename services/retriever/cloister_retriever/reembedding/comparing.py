"""Whether one edition of a store finds as well as another: known passages, each searched for by a sentence of its own.

The method is known-item search with simulated queries (Azzopardi, de Rijke and Balog, "Building simulated queries for
known-item topics", SIGIR 2007): a question whose one right answer is known needs no judge. The mean of 1 over the place
of the answer is the mean reciprocal rank.
"""

import asyncio
import random
import re
from collections.abc import Sequence
from statistics import fmean

from cloister_common.wire.search import FoundPassage, HybridSearch, RankingOptions, StoreSearch

from cloister_retriever.editions import Edition
from cloister_retriever.search.service import SearchService
from cloister_retriever.storage.editions import Comparison
from cloister_retriever.vector_stores.service import OpenStore

__all__ = ["SAMPLES", "Sample", "chosen", "compared", "finds_as_well", "sentence_of"]

SAMPLES = 40
"""Passages. The mean of so many is sure to a few hundredths where both find most of them."""

_RESULTS = 10
_LEAST_WORDS = 5
_MOST_WORDS = 25
_WORSE = 0.05
"""So much less may a new edition find, and still be searched without anybody being asked."""

_SENTENCES = re.compile(r"[.!?。！？\n]+")
_BY_MEANING = RankingOptions(hybrid_search=HybridSearch(embedding_weight=1.0, text_weight=0.0))

Sample = tuple[str, int, str]
"""The file of a passage, its position, and its text."""


async def compared(
    search: SearchService, tenant: str, opened: OpenStore, before: Edition, after: Edition, samples: Sequence[Sample]
) -> Comparison:
    """How both editions find the samples, by meaning alone: the words are the same in both."""
    places: dict[Edition, list[float]] = {before: [], after: []}
    agreements = []
    for file_id, position, text in samples:
        query = StoreSearch(query=sentence_of(text), max_num_results=_RESULTS, ranking_options=_BY_MEANING)
        one, other = await asyncio.gather(
            *(search.search_opened(tenant, [opened._replace(edition=edition)], query) for edition in (before, after))
        )
        for edition, found in ((before, one), (after, other)):
            places[edition].append(_reciprocal(found, file_id, position))
        agreements.append(_shared(one, other))
    return Comparison(
        samples=len(samples),
        before=round(fmean(places[before]), 4) if samples else 0.0,
        after=round(fmean(places[after]), 4) if samples else 0.0,
        agreement=round(fmean(agreements), 4) if samples else 0.0,
    )


def finds_as_well(comparison: Comparison) -> bool:
    """Whether the new edition finds its samples about as well as the old one. Without any nothing can be said."""
    return comparison.samples > 0 and comparison.after >= comparison.before - _WORSE


def chosen(counts: Sequence[tuple[str, int]], seed: str) -> list[tuple[str, int]]:
    """Attachments and positions of some passages, each as probable as any other, the same for the same seed.

    Args:
        counts: Attachments, and how many passages each has.
        seed: What the choice hangs on.
    """
    total = sum(count for _, count in counts)
    numbers = sorted(random.Random(seed).sample(range(total), min(SAMPLES, total)))  # noqa: S311 - no secret
    places, start = [], 0
    for name, count in counts:
        places += [(name, number - start) for number in numbers if start <= number < start + count]
        start += count
    return places


def sentence_of(text: str) -> str:
    """The sentence in the middle of a passage that is long enough to be searched for, or the passage's beginning."""
    sentences = [words for part in _SENTENCES.split(text) if len(words := part.split()) >= _LEAST_WORDS]
    words = sentences[len(sentences) // 2] if sentences else text.split()
    return " ".join(words[:_MOST_WORDS]) or text


def _reciprocal(found: Sequence[FoundPassage], file_id: str, position: int) -> float:
    for place, one in enumerate(found, start=1):
        if (one.file_id, one.passage.index) == (file_id, position):
            return 1 / place
    return 0.0


def _shared(one: Sequence[FoundPassage], other: Sequence[FoundPassage]) -> float:
    mine, theirs = ({(hit.file_id, hit.passage.index) for hit in found} for found in (one, other))
    return len(mine & theirs) / max(len(mine), len(theirs), 1)
