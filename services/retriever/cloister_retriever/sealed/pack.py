"""A pack: some passages of one attachment in one object, sealed, and the block that it is searched as in memory.

    length of the record (u32 LE) ‖ sealed record ‖ the sealed texts, one after another

Inside the record, under the key of vectors, stand a line of JSON and arrays as they are in memory: exact unit vectors,
keyed terms by passage and by term, and where the texts are. So ten thousand passages are ready in the time that it
takes to read and decrypt them. A text stays sealed by itself, as in every index, until it is served.

The record is bound to tenant, vector store, file, attachment and the first passage's position, and hangs on the keys
of the store and of the file: destroying either makes the pack unreadable.
"""

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from cloister_common.vault import VaultError, encode_context, open_record, seal
from numpy.typing import NDArray

from cloister_retriever.index.passages import PassageOwner, open_vector, passage_id
from cloister_retriever.index.protocol import Entry, Hit, SealedPassage
from cloister_retriever.index.rotation import Vector
from cloister_retriever.keys import PassageKeys
from cloister_retriever.terms.weights import TermWeights

__all__ = ["MOST_PASSAGES", "Block", "encoded", "opened"]

MOST_PASSAGES = 2048
"""Passages of one pack. At 384 dimensions it has about 10 MB."""

_LENGTH = struct.Struct("<I")
_ALIGNMENT = 8


class _Array(NamedTuple):
    """An array of a pack: its name, its type, and how many numbers it has by passages, dimensions, terms, postings."""

    name: str
    dtype: str


_ARRAYS = (
    _Array("vectors", "<f4"),  # passages × dimensions: exact unit vectors
    _Array("text_ends", "<u4"),  # passages: where each sealed text ends
    _Array("term_ends", "<u4"),  # passages: where the terms of each end
    _Array("term_ids", "<u4"),  # by passage
    _Array("term_weights", "<f2"),  # three digits, as near as any use of a score
    _Array("known_ids", "<u4"),  # each term once, sorted
    _Array("posting_ends", "<u4"),  # where the passages that have it end
    _Array("posting_rows", "<u2"),
    _Array("posting_weights", "<f2"),
)


class Block:
    """An opened pack.

    Attributes:
        owner: Whose passages they are.
        first: The position of the first; the others follow without a gap.
        vectors: Exact unit vectors, a row for each passage.
        held_bytes: What it takes in memory.
    """

    def __init__(
        self, owner: PassageOwner, keys: PassageKeys, first: int, arrays: dict[str, NDArray[Any]], texts: memoryview
    ) -> None:
        self.owner = owner
        self.first = first
        self.vectors: Vector = arrays["vectors"]
        self.held_bytes = sum(array.nbytes for array in arrays.values()) + len(texts)
        self._keys = keys
        self._arrays = arrays
        self._texts = texts

    def __len__(self) -> int:
        return len(self.vectors)

    def by_words(self, terms: TermWeights) -> Vector:
        """The BM25 score of each passage."""
        known, ends = self._arrays["known_ids"], self._arrays["posting_ends"]
        places = np.searchsorted(known, np.fromiter(terms, np.uint32, len(terms)))
        lists = [
            (*_between(ends, int(place)), weight)
            for place, (term, weight) in zip(places, terms.items(), strict=True)
            if place < len(known) and known[place] == term
        ]
        if not lists:
            return np.zeros(len(self), np.float32)
        rows = np.concatenate([self._arrays["posting_rows"][start:end] for start, end, _ in lists])
        weights = np.concatenate([self._arrays["posting_weights"][start:end] * weight for start, end, weight in lists])
        return np.bincount(rows, weights, len(self)).astype(np.float32)

    def hit(self, row: int) -> Hit:
        """The passage of a row."""
        position = self.first + row
        start, end = _between(self._arrays["text_ends"], row)
        passage = SealedPassage(
            id=passage_id(self._keys, self.owner, position),
            store_id=self.owner.store_id,
            attachment_id=self.owner.attachment_id,
            file_id=self.owner.file_id,
            position=position,
            sealed_vector="",
            sealed_passage=base64.b64encode(self._texts[start:end]).decode("ascii"),
        )
        start, end = _between(self._arrays["term_ends"], row)
        ids, weights = self._arrays["term_ids"][start:end], self._arrays["term_weights"][start:end]
        return Hit(passage, dict(zip(ids.tolist(), weights.tolist(), strict=True)), self.vectors[row])


def encoded(keys: PassageKeys, owner: PassageOwner, entries: Sequence[Entry]) -> bytes:
    """The object that holds passages of one attachment, in the order of their positions, without a gap."""
    first = entries[0].passage.position
    texts = [base64.b64decode(entry.passage.sealed_passage) for entry in entries]
    lengths = np.array([len(entry.terms) for entry in entries], np.uint32)
    ids = np.fromiter((term for entry in entries for term in entry.terms), np.uint32, int(lengths.sum()))
    weights = np.fromiter((one for entry in entries for one in entry.terms.values()), np.float32, len(ids))
    order = np.argsort(ids, kind="stable")
    known, counts = np.unique(ids, return_counts=True)
    arrays: dict[str, NDArray[Any]] = {
        "vectors": np.stack([open_vector(keys, owner, entry.passage) for entry in entries]),
        "text_ends": np.cumsum([len(text) for text in texts]),
        "term_ends": np.cumsum(lengths),
        "term_ids": ids,
        "term_weights": weights,
        "known_ids": known,
        "posting_ends": np.cumsum(counts),
        "posting_rows": np.repeat(np.arange(len(entries)), lengths)[order],
        "posting_weights": weights[order],
    }
    parts = [arrays[array.name].astype(array.dtype).tobytes() for array in _ARRAYS]
    head = json.dumps({"passages": len(entries), "bytes": [len(part) for part in parts]}).encode()
    head += b" " * (-(len(head) + 1) % _ALIGNMENT) + b"\n"
    plain = head + b"".join(part + bytes(-len(part) % _ALIGNMENT) for part in parts)
    record = seal(keys.vectors, plain, _context(owner, first))
    return _LENGTH.pack(len(record)) + record + b"".join(texts)


def opened(keys: PassageKeys, owner: PassageOwner, first: int, data: bytes) -> Block:
    """The block that `encoded` made an object of.

    Raises:
        VaultError: It is not that attachment's pack from that position on, or was cut or altered.
    """
    if len(data) < _LENGTH.size:
        raise VaultError
    end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    plain = open_record(keys.vectors, data[_LENGTH.size : end], _context(owner, first))
    line = plain.index(b"\n") + 1
    head = json.loads(plain[:line])
    arrays: dict[str, NDArray[Any]] = {}
    at = line
    for array, size in zip(_ARRAYS, head["bytes"], strict=True):
        dtype = np.dtype(array.dtype)
        arrays[array.name] = np.frombuffer(plain, dtype, size // dtype.itemsize, at)
        at += size + -size % _ALIGNMENT
    arrays["vectors"] = arrays["vectors"].reshape(head["passages"], -1)
    texts = memoryview(data)[end:]
    if len(texts) != int(arrays["text_ends"][-1]):
        raise VaultError
    return Block(owner, keys, first, arrays, texts)


def _between(ends: NDArray[np.uint32], row: int) -> tuple[int, int]:
    return int(ends[row - 1]) if row else 0, int(ends[row])


def _context(owner: PassageOwner, first: int) -> bytes:
    return encode_context("pack", owner.tenant, owner.store_id, owner.file_id, owner.attachment_id, first)
