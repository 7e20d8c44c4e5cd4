"""How many passages of many attachments have each term, where it is not known which: joined, so that a question costs
one look-up for all of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloister_retriever.terms.postings import Postings

__all__ = ["Tally"]


class Tally:
    """The counts of some attachments.

    Attributes:
        sizes: How many passages each attachment has.
        languages: In which their words were stemmed.
    """

    def __init__(
        self,
        sizes: NDArray[np.int64],
        languages: Sequence[str],
        ids: NDArray[np.uint32],
        owners: NDArray[np.uint32],
        counts: NDArray[np.uint32],
    ) -> None:
        """
        Args:
            sizes: As above.
            languages: As above.
            ids: Terms, sorted; each as often as attachments have it.
            owners: Which attachment that is, by its number.
            counts: How many of its passages have the term.
        """
        self.sizes = sizes
        self.languages = tuple(languages)
        self._ids = ids
        self._owners = owners
        self._counts = counts
        self._sums = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        """Of the counts before each."""

    @property
    def held_bytes(self) -> int:
        return sum(array.nbytes for array in (self.sizes, self._ids, self._owners, self._counts, self._sums))

    def count(self, terms: NDArray[np.uint32], seen: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """In how many passages each of the terms is, of all attachments or of those that are ``seen``."""
        firsts = np.searchsorted(self._ids, terms, side="left")
        ends = np.searchsorted(self._ids, terms, side="right")
        if seen is None:
            every: NDArray[np.int64] = self._sums[ends] - self._sums[firsts]
            return every
        return np.array(
            [
                int(self._counts[first:end][seen[self._owners[first:end]]].sum())
                for first, end in zip(firsts, ends, strict=True)
            ],
            np.int64,
        )

    @classmethod
    def joined(cls, parts: Sequence["Tally | Postings"]) -> "Tally":
        """The attachments of all parts, one part after another; a `Postings` is of one."""
        tallies = [part if isinstance(part, Tally) else _of(part) for part in parts]
        starts = np.cumsum([0, *(len(tally.sizes) for tally in tallies)])
        ids = np.concatenate([tally._ids for tally in tallies])
        owners = np.concatenate(
            [tally._owners + np.uint32(start) for tally, start in zip(tallies, starts, strict=False)]
        )
        order = np.argsort(ids, kind="stable")
        languages = sorted({language for tally in tallies for language in tally.languages})
        counts = np.concatenate([tally._counts for tally in tallies])
        sizes = np.concatenate([tally.sizes for tally in tallies])
        return cls(sizes, languages, ids[order], owners[order], counts[order])


def _of(postings: Postings) -> Tally:
    ids, counts = postings.counts()
    return Tally(np.array([postings.passages]), postings.languages, ids, np.zeros(len(ids), np.uint32), counts)
