"""A pack: some passages of one attachment in one object, sealed, and opened as a block to be searched in memory.

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
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from cloister_common.vault import VaultError, encode_context, open_record, seal
from numpy.typing import NDArray

from cloister_retriever.index.passages import PassageOwner, open_vector
from cloister_retriever.index.protocol import Entry
from cloister_retriever.keys import PassageKeys
from cloister_retriever.sealed.block import Block, Part, postings

__all__ = ["MOST_PASSAGES", "encoded", "joined", "opened", "parted"]

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


def encoded(keys: PassageKeys, owner: PassageOwner, entries: Sequence[Entry]) -> bytes:
    """The object that holds passages of one attachment, in the order of their positions, without a gap."""
    first = entries[0].passage.position
    texts = [base64.b64decode(entry.passage.sealed_passage) for entry in entries]
    lengths = np.array([len(entry.terms) for entry in entries], np.uint32)
    ids = np.fromiter((term for entry in entries for term in entry.terms), np.uint32, int(lengths.sum()))
    weights = np.fromiter((one for entry in entries for one in entry.terms.values()), np.float32, len(ids))
    arrays: dict[str, NDArray[Any]] = {
        "vectors": np.stack([open_vector(keys, owner, entry.passage) for entry in entries]),
        "text_ends": np.cumsum([len(text) for text in texts]),
        "term_ends": np.cumsum(lengths),
        "term_ids": ids,
        "term_weights": weights,
        **postings(lengths, ids, weights),
    }
    record = seal(keys.vectors, joined({"passages": len(entries)}, arrays), _context(owner, first))
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
    head, arrays, _ = parted(plain)
    texts = memoryview(data)[end:]
    if len(texts) != int(arrays["text_ends"][-1]):
        raise VaultError
    return Block([Part(owner, first, head["passages"])], keys.names, arrays, texts)


def joined(head: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A line of JSON, ``head`` with how long the arrays are, and the arrays of a block."""
    parts = [arrays[array.name].astype(array.dtype).tobytes() for array in _ARRAYS]
    line = json.dumps({**head, "bytes": [len(part) for part in parts]}).encode()
    line += b" " * (-(len(line) + 1) % _ALIGNMENT) + b"\n"
    return line + b"".join(part + bytes(-len(part) % _ALIGNMENT) for part in parts)


def parted(plain: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]], memoryview]:
    """Head and arrays of what `joined` made, and what stands behind. ``head["passages"]`` is how many there are."""
    at = plain.index(b"\n") + 1
    head: dict[str, Any] = json.loads(plain[:at])
    arrays: dict[str, NDArray[Any]] = {}
    for array, size in zip(_ARRAYS, head["bytes"], strict=True):
        dtype = np.dtype(array.dtype)
        arrays[array.name] = np.frombuffer(plain, dtype, size // dtype.itemsize, at)
        at += size + -size % _ALIGNMENT
    arrays["vectors"] = arrays["vectors"].reshape(head["passages"], -1)
    return head, arrays, memoryview(plain)[at:]


def _context(owner: PassageOwner, first: int) -> bytes:
    return encode_context("pack", owner.tenant, owner.store_id, owner.file_id, owner.attachment_id, first)
