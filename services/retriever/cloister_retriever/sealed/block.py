"""A block: passages of one sealed vector store as they are searched in memory, of one pack or of many small ones.

What a search costs grows with the passages and with the blocks, so those of a store of many small files are joined.
"""

import base64
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloister_retriever.index.passages import PassageOwner, passage_name
from cloister_retriever.index.protocol import Hit, SealedPassage
from cloister_retriever.index.rotation import Vector
from cloister_retriever.terms.weights import TermWeights

__all__ = ["Block", "Part", "postings"]


class Part(NamedTuple):
    """Passages of one attachment that follow each other without a gap: those of a pack."""

    owner: PassageOwner
    first: int
    """The position of the first."""

    passages: int


class Block:
    """Some passages of a store.

    Args:
        parts: Whose they are, one part after another; at least one.
        names: The key of the store's edition that makes passage ids.
        arrays: As `cloister_retriever.sealed.pack` has them in a pack.
        texts: The sealed texts, one after another.

    Attributes:
        parts, arrays, texts: As they were given.
        vectors: Exact unit vectors, a row for each passage.
        held_bytes: What it takes in memory.
    """

    def __init__(self, parts: Sequence[Part], names: bytes, arrays: dict[str, NDArray[Any]], texts: memoryview) -> None:
        self.parts = list(parts)
        self.vectors: Vector = arrays["vectors"]
        self.held_bytes = sum(array.nbytes for array in arrays.values()) + len(texts)
        self._starts = np.cumsum([0, *(part.passages for part in parts)])
        self._names = names
        self.arrays = arrays
        self.texts = texts

    def __len__(self) -> int:
        return len(self.vectors)

    def of(self, attachment_ids: Collection[str] | None, without: Collection[str]) -> NDArray[np.bool_]:
        """Which rows are of these attachments, or of any, and of none of the others."""
        wanted = [
            (attachment_ids is None or part.owner.attachment_id in attachment_ids)
            and part.owner.attachment_id not in without
            for part in self.parts
        ]
        return np.repeat(np.array(wanted, np.bool_), np.diff(self._starts))

    def rows(self, attachment_id: str, positions: Collection[int]) -> list[int]:
        """The rows of an attachment's passages at these positions, as far as they are here."""
        return [
            int(start) + position - part.first
            for part, start in zip(self.parts, self._starts, strict=False)
            if part.owner.attachment_id == attachment_id
            for position in positions
            if part.first <= position < part.first + part.passages
        ]

    def by_words(self, terms: TermWeights) -> Vector:
        """The BM25 score of each passage."""
        known, ends = self.arrays["known_ids"], self.arrays["posting_ends"]
        places = np.searchsorted(known, np.fromiter(terms, np.uint32, len(terms)))
        lists = [
            (slice(*_between(ends, int(place))), weight)
            for place, (term, weight) in zip(places, terms.items(), strict=True)
            if place < len(known) and known[place] == term
        ]
        if not lists:
            return np.zeros(len(self), np.float32)
        rows = np.concatenate([self.arrays["posting_rows"][where] for where, _ in lists])
        # Made float32 at once: numbers of two bytes are slow to reckon with.
        weights = np.concatenate([self.arrays["posting_weights"][where] for where, _ in lists]).astype(np.float32)
        weights *= np.repeat(
            np.array([weight for _, weight in lists], np.float32), [where.stop - where.start for where, _ in lists]
        )
        return np.bincount(rows, weights, len(self)).astype(np.float32)

    def hit(self, row: int) -> Hit:
        """The passage of a row."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        part = self.parts[number]
        position = part.first + row - int(self._starts[number])
        start, end = _between(self.arrays["text_ends"], row)
        passage = SealedPassage(
            id=passage_name(self._names, part.owner.attachment_id, position),
            store_id=part.owner.place,
            attachment_id=part.owner.attachment_id,
            file_id=part.owner.file_id,
            position=position,
            sealed_vector="",
            sealed_passage=base64.b64encode(self.texts[start:end]).decode("ascii"),
        )
        start, end = _between(self.arrays["term_ends"], row)
        ids, weights = self.arrays["term_ids"][start:end], self.arrays["term_weights"][start:end]
        return Hit(passage, dict(zip(ids.tolist(), weights.tolist(), strict=True)), self.vectors[row])

    def without(self, gone: AbstractSet[Part]) -> "Block | None":
        """The same without some parts, of which nothing stays in it; None if nothing is left."""
        kept = [place for place, part in enumerate(self.parts) if part not in gone]
        if len(kept) == len(self.parts):
            return self
        return _joined([self._part(place) for place in kept], self._names) if kept else None

    @classmethod
    def only(cls, blocks: Sequence["Block"], wanted: AbstractSet[Part]) -> "Block | None":
        """Some parts of several blocks of one store's edition; None if none is there."""
        pieces = [block._part(place) for block in blocks for place, part in enumerate(block.parts) if part in wanted]
        return _joined(pieces, blocks[0]._names) if pieces else None

    @classmethod
    def joined(cls, blocks: Sequence["Block"]) -> "Block":
        """The passages of several blocks of one store's edition, whose vectors have the same length."""
        return _joined([block._part(place) for block in blocks for place in range(len(block.parts))], blocks[0]._names)

    def _part(self, place: int) -> "_Piece":
        start, stop = int(self._starts[place]), int(self._starts[place + 1])
        texts, terms = self.arrays["text_ends"], self.arrays["term_ends"]
        first, last = int(texts[start - 1]) if start else 0, int(texts[stop - 1])
        begin, end = int(terms[start - 1]) if start else 0, int(terms[stop - 1])
        return _Piece(
            self.parts[place],
            self.vectors[start:stop],
            texts[start:stop].astype(np.int64) - first,
            terms[start:stop].astype(np.int64) - begin,
            self.arrays["term_ids"][begin:end],
            self.arrays["term_weights"][begin:end],
            self.texts[first:last],
        )


class _Piece(NamedTuple):
    """One part of a block with what is its own."""

    part: Part
    vectors: Vector
    text_ends: NDArray[np.int64]
    term_ends: NDArray[np.int64]
    term_ids: NDArray[np.uint32]
    term_weights: NDArray[np.float16]
    texts: memoryview


def _joined(pieces: Sequence[_Piece], names: bytes) -> Block:
    ids = np.concatenate([piece.term_ids for piece in pieces])
    weights = np.concatenate([piece.term_weights for piece in pieces])
    term_ends = _ends([piece.term_ends for piece in pieces])
    arrays: dict[str, NDArray[Any]] = {
        "vectors": np.concatenate([piece.vectors for piece in pieces]),
        "text_ends": _ends([piece.text_ends for piece in pieces]),
        "term_ends": term_ends,
        "term_ids": ids,
        "term_weights": weights,
        **postings(np.diff(term_ends, prepend=0), ids, weights),
    }
    texts = memoryview(b"".join(piece.texts for piece in pieces))
    return Block([piece.part for piece in pieces], names, arrays, texts)


def postings(
    lengths: NDArray[Any], ids: NDArray[np.uint32], weights: NDArray[np.float16] | NDArray[np.float32]
) -> dict[str, NDArray[Any]]:
    """The terms of passages the other way round: which passages have each.

    Args:
        lengths: How many terms each passage has.
        ids: The terms, passage by passage.
        weights: Their weights.
    """
    order = np.argsort(ids, kind="stable")
    known, counts = np.unique(ids, return_counts=True)
    return {
        "known_ids": known,
        "posting_ends": np.cumsum(counts),
        "posting_rows": np.repeat(np.arange(len(lengths), dtype=np.uint16), lengths)[order],
        "posting_weights": weights[order],
    }


def _ends(pieces: Sequence[NDArray[np.int64]]) -> NDArray[np.uint32]:
    """Where things end that end so in each piece."""
    starts = np.cumsum([0, *(int(ends[-1]) for ends in pieces)])
    return np.concatenate([ends + start for ends, start in zip(pieces, starts, strict=False)]).astype(np.uint32)


def _between(ends: NDArray[np.uint32], row: int) -> tuple[int, int]:
    return int(ends[row - 1]) if row else 0, int(ends[row])
