"""How often terms are: counted for each attachment when it is ingested, added up for each store when it is searched.

An attachment's counts are kept beside its extracted text, sealed, and go when it goes. So nobody must lock anything
to keep a store's sum right, and a store's rare terms are rare by what is in it now.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from cloister_retriever.terms.weights import Frequencies, TermWeights

__all__ = ["TermCounter", "TermCounts"]


class TermCounts:
    """In how many of some passages each term is.

    Attributes:
        passages: How many passages they are.
        languages: In which their words were stemmed.
    """

    def __init__(
        self, passages: int, languages: Sequence[str], ids: NDArray[np.uint32], counts: NDArray[np.uint32]
    ) -> None:
        self.passages = passages
        self.languages = tuple(languages)
        self._ids = ids
        """Sorted, each once."""
        self._counts = counts

    @classmethod
    def sum_of(cls, parts: Iterable["TermCounts"]) -> "TermCounts":
        """The counts of all the passages together."""
        parts = list(parts)
        if not parts:
            return cls(0, (), np.empty(0, np.uint32), np.empty(0, np.uint32))
        ids, where = np.unique(np.concatenate([part._ids for part in parts]), return_inverse=True)
        counts = np.bincount(where, weights=np.concatenate([part._counts for part in parts]), minlength=len(ids))
        languages = sorted({language for part in parts for language in part.languages})
        return cls(sum(part.passages for part in parts), languages, ids, counts.astype(np.uint32))

    def of(self, term: int) -> int:
        """The passages that have a term, by its id."""
        place = int(np.searchsorted(self._ids, term))
        return int(self._counts[place]) if place < len(self._ids) and self._ids[place] == term else 0

    def frequencies(self) -> Frequencies:
        """The same, as questions are weighed by it."""
        return Frequencies(self.passages, self.languages, self.of)

    def encoded(self) -> bytes:
        """A line of JSON, then ids and counts, four bytes each."""
        head = orjson.dumps({"passages": self.passages, "languages": self.languages})
        return head + b"\n" + self._ids.astype("<u4").tobytes() + self._counts.astype("<u4").tobytes()

    @classmethod
    def decoded(cls, data: bytes) -> "TermCounts":
        """What `encoded` gave. Its caller has opened it, so it is what this program wrote."""
        line, _, rest = data.partition(b"\n")
        head = orjson.loads(line)
        ids, counts = np.frombuffer(rest, "<u4").reshape(2, -1)
        return cls(head["passages"], head["languages"], ids, counts)


class TermCounter:
    """Counts while an attachment is ingested."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._passages = 0
        self._counts: Counter[int] = Counter()

    def add(self, passages: Sequence[TermWeights]) -> None:
        """Counts the terms of more passages."""
        self._passages += len(passages)
        for passage in passages:
            self._counts.update(passage.keys())

    def total(self) -> TermCounts:
        """All that were added."""
        ids = np.fromiter(sorted(self._counts), np.uint32, len(self._counts))
        counts = np.fromiter((self._counts[int(term)] for term in ids), np.uint32, len(ids))
        return TermCounts(self._passages, (self._language,), ids, counts)
