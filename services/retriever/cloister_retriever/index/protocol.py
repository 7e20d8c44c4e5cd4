"""What an index of passages is to those who fill and search it, whatever holds it.

Milvus is the one implementation (`cloister_retriever.index.collection`). What searches by words, or in memory, takes
the same sealed passages and gives the same hits: two halves of one search differ in what they are asked, and are
fused by whoever asked both.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from prometheus_client import Counter

from cloister_retriever.index.rotation import Vector

__all__ = ["DROPPED", "Entry", "Files", "Found", "Hit", "Index", "SealedPassage"]

DROPPED = Counter("cloister_search_rows_dropped_total", "Rows of the index that were not served.", ["why"])


class SealedPassage(NamedTuple):
    """One passage as every index keeps it. In the clear are random ids, its position and sizes."""

    id: str
    store_id: str
    attachment_id: str
    file_id: str
    position: int
    sealed_vector: str
    """The exact unit vector, sealed; base64. `cloister_retriever.index.passages` opens it."""

    sealed_passage: str
    """Text and place, sealed; base64."""


class Entry(NamedTuple):
    """A passage to be written, with what an index may search it by."""

    passage: SealedPassage
    dense: list[float]
    """The rotated unit vector."""

    @property
    def stored_bytes(self) -> int:
        """What it takes in an index: the vector has four bytes a number."""
        return len(self.passage.sealed_vector) + len(self.passage.sealed_passage) + 4 * len(self.dense)


class Hit(NamedTuple):
    """A proposal. Whether it is what it claims to be shows when it is opened."""

    passage: SealedPassage
    score: float
    """More is better. Comparable with the other hits of the same search only."""


class Found(NamedTuple):
    """The hits of one search, best first."""

    hits: list[Hit]
    is_all: bool
    """Whether the index has no more that were asked for."""


class Files(NamedTuple):
    """Whose passages a search is about."""

    ids: Collection[str]
    excluded: bool
    """Whether it is about those of all other files."""


class Index(Protocol):
    """Holds sealed passages by vector store and attachment.

    Every method raises `Unavailable` while the index does not answer.
    """

    async def upsert(self, entries: Sequence[Entry]) -> None:
        """Writes passages, replacing those with the same id.

        Raises:
            Conflict: The index's vectors have another length.
        """

    async def delete(
        self, store_id: str, attachment_id: str | None = None, *, from_position: int | None = None
    ) -> None:
        """Removes the passages of a store, of one attachment of it, or those of it from a position on."""

    async def count(self, store_id: str, attachment_id: str | None = None) -> int:
        """How many passages there are, after every write that was acknowledged before."""

    async def search(
        self,
        store_id: str,
        query: Vector,
        *,
        limit: int,
        attachment_ids: Sequence[str] | None,
        fresh: bool,
        files: Files | None = None,
    ) -> Found:
        """The passages nearest to a query.

        Args:
            store_id: The vector store.
            query: One rotated unit vector.
            limit: How many hits at most.
            attachment_ids: Only passages of these, or None for all of the store.
            fresh: See every write that was acknowledged before, at the price of a wait, instead of allowing for a few
                seconds of delay.
            files: Only passages of these files, or of all the others; applied before anything is ranked.

        Raises:
            Conflict: The index's vectors have another length.
        """
