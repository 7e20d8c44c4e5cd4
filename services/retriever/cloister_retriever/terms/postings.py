"""The words of an attachment's passages the other way round: in which passages each term is, with what weight.

They are made when the attachment is ingested, kept beside its extracted text, sealed, and go when it goes. So nothing
about words can be read where they are stored, nobody must lock anything to keep a store's sum right, and a term is
rare by what is in the store now.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import orjson
from cloister_common.vault import VaultError
from numpy.typing import NDArray

from cloister_retriever.terms.weights import TermWeights

__all__ = ["Postings", "PostingsWriter"]

_MULTIPLE = 8


class Postings:
    """Some passages by their terms.

    Attributes:
        passages: How many passages there are.
        languages: In which their words were stemmed.
        can_search: Whether it is known in which passages a term is, or only in how many.
    """

    def __init__(
        self,
        passages: int,
        languages: Sequence[str],
        ids: NDArray[np.uint32],
        counts: NDArray[np.uint32],
        rows: NDArray[np.uint32],
        weights: NDArray[np.float16] | NDArray[np.float32],
    ) -> None:
        self.passages = passages
        self.languages = tuple(languages)
        self._ids = ids
        """Sorted, each once."""
        self._counts = counts
        self._ends = np.cumsum(counts)
        self._rows = rows
        """Of the passages, term by term."""
        self._weights = weights.astype(np.float32)
        """Kept with half as many bits, which numpy multiplies slowly."""
        self.can_search = len(rows) > 0

    @property
    def held_bytes(self) -> int:
        arrays = (self._ids, self._counts, self._ends, self._rows, self._weights)
        return sum(array.nbytes for array in arrays)

    def count(self, terms: NDArray[np.uint32], seen: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """In how many passages each of the terms is, by their ids.

        Args:
            terms: Their ids.
            seen: Which passages count, where not all do; only where it is known in which a term is.
        """
        if not len(self._ids):
            return np.zeros(len(terms), np.int64)
        places = np.minimum(np.searchsorted(self._ids, terms), len(self._ids) - 1)
        there = self._ids[places] == terms
        if seen is None:
            return np.where(there, self._counts[places], 0).astype(np.int64)
        counts = np.zeros(len(terms), np.int64)
        for number in np.flatnonzero(there):
            end = int(self._ends[places[number]])
            counts[number] = np.count_nonzero(seen[self._rows[end - int(self._counts[places[number]]) : end]])
        return counts

    def counts(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """All terms, sorted, and in how many passages each is."""
        return self._ids, self._counts

    def scores(self, terms: TermWeights) -> NDArray[np.float32]:
        """Each passage's BM25 score."""
        scores = np.zeros(self.passages, np.float32)
        if not self.can_search:
            return scores
        asked = np.fromiter(terms, np.uint32, len(terms))
        places = np.minimum(np.searchsorted(self._ids, asked), len(self._ids) - 1)
        for place in places[self._ids[places] == asked]:
            end = int(self._ends[place])
            start = end - int(self._counts[place])
            scores[self._rows[start:end]] += np.float32(terms[int(self._ids[place])]) * self._weights[start:end]
        return scores

    @classmethod
    def joined(cls, parts: Sequence["Postings"]) -> "Postings":
        """The passages of all parts, one part after another."""
        starts = np.cumsum([0, *(part.passages for part in parts)])
        ids = np.concatenate([np.repeat(part._ids, part._counts) for part in parts])
        rows = np.concatenate([part._rows + np.uint32(start) for part, start in zip(parts, starts, strict=False)])
        weights = np.concatenate([part._weights for part in parts])
        order = np.argsort(ids, kind="stable")
        known, counts = np.unique(ids, return_counts=True)
        languages = sorted({language for part in parts for language in part.languages})
        return cls(int(starts[-1]), languages, known, counts.astype(np.uint32), rows[order], weights[order])

    def encoded(self) -> bytes:
        """A line of JSON, then the arrays."""
        arrays = (self._ids, self._counts, self._rows, self._weights.astype(np.float16))
        head = {
            "passages": self.passages,
            "languages": self.languages,
            "terms": len(self._ids),
            "rows": len(self._rows),
        }
        line = orjson.dumps(head)
        line += b" " * (-(len(line) + 1) % _MULTIPLE) + b"\n"
        return line + b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays)

    @classmethod
    def decoded(cls, data: bytes) -> "Postings":
        """What `encoded` gave.

        Raises:
            VaultError: It is none.
        """
        try:
            at = data.index(b"\n") + 1
            head = orjson.loads(data[:at])
            terms, rows = int(head["terms"]), int(head["rows"])
            ids = np.frombuffer(data, "<u4", terms, at)
            counts = np.frombuffer(data, "<u4", terms, at + 4 * terms)
            places = np.frombuffer(data, "<u4", rows, at + 8 * terms)
            weights = np.frombuffer(data, "<f2", rows, at + 8 * terms + 4 * rows)
            return cls(int(head["passages"]), head["languages"], ids, counts, places, weights)
        except (ValueError, KeyError, TypeError):
            # Without its cause, which may quote it.
            raise VaultError from None


class PostingsWriter:
    """Takes in the passages of an attachment, in their order.

    Args:
        language: In which their words are stemmed.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._passages = 0
        self._ids: list[NDArray[np.uint32]] = []
        self._rows: list[NDArray[np.uint32]] = []
        self._weights: list[NDArray[np.float16]] = []

    def add(self, passages: Iterable[TermWeights]) -> None:
        """The next passages."""
        for passage in passages:
            self._ids.append(np.fromiter(passage.keys(), np.uint32, len(passage)))
            self._weights.append(np.fromiter(passage.values(), np.float16, len(passage)))
            self._rows.append(np.full(len(passage), self._passages, np.uint32))
            self._passages += 1

    def postings(self, *, to_search: bool) -> Postings:
        """Of all that were added. ``to_search`` is whether it is to be known in which passages a term is."""
        ids = np.concatenate([np.empty(0, np.uint32), *self._ids])
        order = np.argsort(ids, kind="stable") if to_search else np.empty(0, np.int64)
        known, counts = np.unique(ids, return_counts=True)
        rows = np.concatenate([np.empty(0, np.uint32), *self._rows])[order]
        weights = np.concatenate([np.empty(0, np.float16), *self._weights])[order]
        return Postings(self._passages, (self.language,), known, counts.astype(np.uint32), rows, weights)
