"""What an index of passages is to those who fill and search it, whatever holds it.

Milvus is one (`cloister_retriever.index.collection`), for the vector stores whose protection is ``standard``; those
that are ``sealed`` have one in memory (`cloister_retriever.sealed`). Both take the same sealed passages and give the
same hits. A search has two halves, by meaning and by words; an index proposes
what either finds, and whoever asked scores the proposals exactly and fuses both.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from prometheus_client import Counter

from cloister_retriever.index.rotation import Vector
from cloister_retriever.terms.weights import TermWeights

__all__ = ["DROPPED", "Entry", "Found", "Hit", "Index", "Question", "SealedPassage"]

DROPPED = Counter("cloister_search_rows_dropped_total", "Rows of the index that were not served.", ["why"])


class SealedPassage(NamedTuple):
    """One passage as every index keeps it. In the clear are random ids, its position and sizes."""

    id: str
    store_id: str
    """The name of the place that the store's edition has (`cloister_retriever.editions`): for most the store's id."""

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

    terms: TermWeights
    """Its keyed terms with their weights: `cloister_retriever.terms.weights.passage_terms`."""

    @property
    def stored_bytes(self) -> int:
        """What it takes in an index: the vector has four bytes a number, a term an id and a weight of four bytes."""
        sealed = len(self.passage.sealed_vector) + len(self.passage.sealed_passage)
        return sealed + 4 * len(self.dense) + 8 * len(self.terms)


class Question(NamedTuple):
    """What is searched for, by either half or by both."""

    dense: Vector | None
    """One rotated unit vector."""

    terms: TermWeights | None
    """Keyed terms with their weights, at least one: `cloister_retriever.terms.weights.asked_terms`. Only for an index
    that finds by words itself."""

    ids: Sequence[str] = ()
    """Passages that were found by their words already, and are wanted whatever their vectors are."""


class Hit(NamedTuple):
    """A proposal. Whether it is what it claims to be shows when it is opened."""

    passage: SealedPassage
    terms: TermWeights | None
    """The passage's keyed terms; None where the index does not find by words."""

    exact: Vector | None = None
    """The exact unit vector, where the index has opened it already."""


class Found(NamedTuple):
    """The hits of one search: of each half the best, each passage once, in no order that means anything."""

    hits: list[Hit]
    is_all: bool
    """Whether a greater limit would bring no more."""


class Index(Protocol):
    """Holds sealed passages by vector store and attachment.

    Every method raises `Unavailable` while the index does not answer. What is called ``store_id`` is the name of a
    place (`cloister_retriever.editions`), of one edition of a store: for most it is the store's id.

    Attributes:
        by_words: Whether it has the passages' terms and finds by them. Else whoever asks does, and names what he found.
    """

    by_words: bool

    async def upsert(self, entries: Sequence[Entry]) -> None:
        """Writes passages, replacing those with the same id.

        Raises:
            Conflict: The index's vectors have another length.
        """

    async def delete(
        self, store_id: str, attachment_id: str | None = None, *, from_position: int | None = None
    ) -> None:
        """Removes the passages of a store, of one attachment of it, or those of it from a position on."""

    async def count(self, store_id: str, ids: Sequence[str]) -> int:
        """How many of these passages there are, after every write that was acknowledged before.

        It costs what the ids cost, and not what the index holds.
        """

    async def read(self, store_id: str, attachment_id: str, ids: Mapping[int, str]) -> list[SealedPassage]:
        """Those of these passages of an attachment, named by position and id, that there are, in any order, after
        every write that was acknowledged before. Their vectors may be left out."""

    async def search(
        self,
        store_id: str,
        question: Question,
        *,
        limit: int,
        attachment_ids: Sequence[str] | None,
        fresh: bool,
        without: Collection[str] = (),
    ) -> Found:
        """The passages nearest to a question by meaning, those that have most of its words, and those it names.

        Args:
            store_id: The vector store.
            question: What is searched for.
            limit: How many hits of each half at most.
            attachment_ids: Only passages of these, or None for all of the store.
            fresh: See every write that was acknowledged before, at the price of a wait, instead of allowing for a few
                seconds of delay.
            without: No passages of these attachments. They are left out before anything is ranked.

        Raises:
            Conflict: The index's vectors have another length.
        """
