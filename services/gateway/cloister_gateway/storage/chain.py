"""The chain of an item log: what is sealed of each item and of the head, and the check that all of it fits together.

Each record is bound to its tenant, conversation, place, item id and to the chain of everything before it:

    chain(0) = zeros;  chain(n) = HMAC-SHA256(chain key, encode(chain(n-1), n, SHA256(record n)))

and the head, sealed beside the items, holds their count, the chain at their end and the places of deleted ones. Beside
each record lies the chain before it, in the clear. So any number of items at the end of a log can be checked alone:
what is followed from the claimed beginning ends at the chain of the head only if the claim is true, and nothing behind
it was changed, moved, left out or added. Nothing here speaks to Redis.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from cloister_common.vault import VaultError, encode_context, open_record, seal

from cloister_gateway.storage.records import KeyedObject, open_field, seal_field

__all__ = ["START", "Addition", "Entry", "Head", "Hole", "StoredItem", "follow", "open_mark", "seal_items", "seal_mark"]

START = b"\0" * 32
"""The chain before the first item."""


class StoredItem(NamedTuple):
    """One item as it was stored."""

    seq: int
    id: str
    body: dict[str, Any]
    size: int = 0
    """Bytes of its JSON."""


class Entry(NamedTuple):
    """A stored item as it lies in the store. ``before`` is the claimed chain before it: empty if the version that wrote
    it left none."""

    id: str
    record: bytes
    before: bytes


class Hole(NamedTuple):
    """What a deleted item has left. ``before`` is as in `Entry`; ``id`` is empty if the version then left none."""

    id: str
    digest: bytes
    before: bytes


class Head(NamedTuple):
    """The end of a log, as it is sealed: how many places it has, the chain at its end, and which places are holes.

    ``holes`` is None where a version that did not name them has counted some: then all of a log has to be read.
    """

    length: int = 0
    chain: bytes = START
    removed: int = 0
    holes: frozenset[int] | None = frozenset()

    def seal(self, keyed: KeyedObject) -> bytes:
        """As it is stored. Places that follow each other are one range, so deleting a long talk leaves a short head."""
        value: dict[str, Any] = {"length": self.length, "chain": self.chain.hex(), "removed": self.removed}
        if self.holes is not None:
            value["holes"] = _ranges(self.holes)
        return seal_field(keyed.key, keyed.kind, keyed.id, "head", value)

    @classmethod
    def open(cls, keyed: KeyedObject, sealed: bytes | None) -> "Head":
        """Raises `VaultError`, or what a missing part raises, unless ``sealed`` is this object's head."""
        value = open_field(keyed.key, keyed.kind, keyed.id, "head", sealed)
        ranges = value.get("holes", None if value["removed"] else [])
        holes = None if ranges is None else frozenset(seq for first, last in ranges for seq in range(first, last + 1))
        return cls(value["length"], bytes.fromhex(value["chain"]), value["removed"], holes)

    def without(self, seq: int) -> "Head":
        """The head after the item at ``seq`` was deleted."""
        return self._replace(removed=self.removed + 1, holes=None if self.holes is None else self.holes | {seq})


class Addition(NamedTuple):
    """Items sealed for the end of a log, not yet written.

    Attributes:
        first: The place of the first of them.
        items: What they are once they are written.
        entries: What is written of each.
        head: The head with them.
    """

    first: int
    items: list[StoredItem]
    entries: list[Entry]
    head: Head

    def arguments(self) -> list[str | bytes | int]:
        """For a script: the first place; then id, record and chain before it of each item."""
        return [self.first, *(part for entry in self.entries for part in entry)]


def seal_items(keyed: KeyedObject, bodies: Sequence[Mapping[str, Any]], head: Head) -> Addition:
    """Seals items (each with its ``id``) for the places behind ``head``."""
    entries, items, chain = [], [], head.chain
    for seq, body in enumerate(bodies, start=head.length + 1):
        item_id, plaintext = str(body["id"]), orjson.dumps(body)
        record = seal(keyed.key.subkey("items"), plaintext, _context(keyed, seq, item_id, chain))
        entries.append(Entry(item_id, record, chain))
        # As a reader gets it, and nothing that the caller may still change.
        items.append(StoredItem(seq, item_id, orjson.loads(plaintext), len(plaintext)))
        chain = _link(keyed, chain, seq, _digest(record))
    return Addition(head.length + 1, items, entries, head._replace(length=head.length + len(items), chain=chain))


def seal_mark(keyed: KeyedObject, seq: int, entry: Entry) -> bytes:
    """What is left of an item that is deleted: enough for the chain, and for lists that go on from there."""
    left = {"digest": _digest(entry.record).hex(), "id": entry.id, "before": entry.before.hex()}
    return seal_field(keyed.key, keyed.kind, keyed.id, f"removed:{seq}", left)


def open_mark(keyed: KeyedObject, seq: int, mark: bytes | None) -> Hole:
    """What `seal_mark` left. Raises `VaultError` unless it is this object's and place's."""
    left = open_field(keyed.key, keyed.kind, keyed.id, f"removed:{seq}", mark)
    if isinstance(left, str):  # As marks were before they held ids: the digest alone.
        left = {"digest": left, "id": ""}
    return Hole(left["id"], bytes.fromhex(left["digest"]), bytes.fromhex(left.get("before", "")))


def follow(
    keyed: KeyedObject, head: Head, places: Mapping[int, Entry | Hole], *, before: bytes
) -> tuple[list[StoredItem], dict[str, int]]:
    """Opens what stands in a row of places up to the end of a log.

    Args:
        keyed: The object.
        head: Its head, opened.
        places: What stands there: all places from the first of them to the end, and no other.
        before: The chain before the first; a claim, which is found out here if it is false.

    Returns:
        The items in order, and the numbers of deleted ones by their ids.

    Raises:
        VaultError: A place is missing or has something else in it than the head says, or the chain does not hold.
    """
    first = head.length - len(places) + 1
    chain = before
    items: list[StoredItem] = []
    gone: dict[str, int] = {}
    for seq in range(first, head.length + 1):
        found = places[seq]
        if head.holes is not None and isinstance(found, Hole) != (seq in head.holes):
            raise VaultError
        if isinstance(found, Hole):
            gone[found.id] = seq
            digest = found.digest
        else:
            plaintext = open_record(keyed.key.subkey("items"), found.record, _context(keyed, seq, found.id, chain))
            items.append(StoredItem(seq, found.id, orjson.loads(plaintext), len(plaintext)))
            digest = _digest(found.record)
        chain = _link(keyed, chain, seq, digest)
    if head.holes is None and (first > 1 or len(places) - len(items) != head.removed):
        raise VaultError
    if not hmac.compare_digest(chain, head.chain):
        raise VaultError
    return items, gone


def _digest(record: bytes) -> bytes:
    return hashlib.sha256(record).digest()


def _link(keyed: KeyedObject, chain: bytes, seq: int, digest: bytes) -> bytes:
    return hmac.digest(keyed.key.subkey("chain"), encode_context(chain, seq, digest), "sha256")


def _context(keyed: KeyedObject, seq: int, item_id: str, chain: bytes) -> bytes:
    return encode_context("item", keyed.key.tenant, keyed.kind, keyed.id, seq, item_id, chain)


def _ranges(places: Iterable[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for place in sorted(places):
        if ranges and ranges[-1][1] == place - 1:
            ranges[-1][1] = place
        else:
            ranges.append([place, place])
    return ranges
