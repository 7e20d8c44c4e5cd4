"""Logs that were opened are kept in memory for a while, so that the next reader opens only what is new.

A turn in a long conversation needs all of it, and opening a thousand items takes 25 ms. What is kept is plaintext: for
as long as the vault keeps the key that opened it (`cloister_common.vault.Keyring`), or a run works with it. It is bound
to that very key, and so to its tenant and object, and leaves the memory with it: after a while, when the object is
deleted on any gateway, and when this one may have missed the word of that. Nothing of it is served without asking the
store: its head must be that of the kept log, or go on from it (`cloister_gateway.storage.items`).
"""

import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from cloister_common.vault import DataKey

from cloister_gateway.storage.chain import Head, StoredItem
from cloister_gateway.storage.records import KeyedObject

__all__ = ["OpenedLogs", "StoredLog"]

_ITEM_BYTES = 1536
"""What an item takes beside its text: its objects here, and those that its readers make of it."""
_TEXT_COPIES = 3
"""Its text in the item and in what is sent to the model; in one of them a character may take two bytes and more."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredLog:
    """A log, or the end of it, as it was read. Nothing of it is ever changed.

    Attributes:
        items: In order.
        removed: The numbers of deleted items by their ids.
        head: The end of it.
        sealed_head: The same as it lay in the store: what a write must replace.
        size: How much memory it takes, in bytes, about.
        views: What readers have made of a log, by their names for it. They go on with the log when items are added to
            its end, so that readers need only look at these, and begin anew when one was deleted.
    """

    items: list[StoredItem]
    removed: dict[str, int]
    head: Head
    sealed_head: bytes
    size: int
    views: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, items: list[StoredItem], removed: dict[str, int], head: Head, sealed_head: bytes) -> Self:
        """A log that was just opened."""
        return cls(items, removed, head, sealed_head, _size(items))

    @property
    def older(self) -> int:
        """How many items stand before these."""
        return self.head.length - self.head.removed - len(self.items)

    def end(self, count: int) -> Self:
        """The last ``count`` items, or all if there are not as many."""
        return self.of(self.items[-count:], self.removed, self.head, self.sealed_head)

    def with_added(self, items: list[StoredItem], removed: dict[str, int], head: Head, sealed_head: bytes) -> Self:
        """The log with more at its end: items, and places whose items were deleted again."""
        size = self.size + _size(items)
        return type(self)([*self.items, *items], {**self.removed, **removed}, head, sealed_head, size, self.views)

    def without(self, places: frozenset[int]) -> Self:
        """The log after the items at ``places`` were deleted. (Its head is then not the one in the store.)"""
        if not places:
            return self
        removed = self.removed | {item.id: item.seq for item in self.items if item.seq in places}
        items = [item for item in self.items if item.seq not in places]
        return self.of(items, removed, self.head, self.sealed_head)


class _Kept(NamedTuple):
    key: "weakref.ref[DataKey]"
    log: StoredLog


class OpenedLogs:
    """Whole logs by their objects; those that nobody asked for longest go first.

    Args:
        most_bytes: How much memory they may take, about. One that needs more by itself is not kept.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._bytes = 0

    @property
    def in_memory(self) -> int:
        """The bytes that all of them take, about."""
        return self._bytes

    def get(self, keyed: KeyedObject) -> StoredLog | None:
        """The log of the object, if this very key has opened it."""
        name = (keyed.kind, keyed.id)
        kept = self._kept.get(name)
        if kept is None or kept.key() is not keyed.key:
            return None
        self._kept.move_to_end(name)
        return kept.log

    def put(self, keyed: KeyedObject, log: StoredLog) -> None:
        """Keeps the log, in the place of what was kept of this object."""
        name = (keyed.kind, keyed.id)
        self._drop(name)
        if log.size > self._most_bytes:
            return
        key = weakref.ref(keyed.key, lambda dead: self._forget(name, dead))
        self._kept[name] = _Kept(key, log)
        self._bytes += log.size
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def _forget(self, name: tuple[str, str], dead: "weakref.ref[DataKey]") -> None:
        kept = self._kept.get(name)
        if kept is not None and kept.key is dead:
            self._drop(name)

    def _drop(self, name: tuple[str, str]) -> None:
        kept = self._kept.pop(name, None)
        if kept is not None:
            self._bytes -= kept.log.size


def _size(items: list[StoredItem]) -> int:
    return sum(item.size for item in items) * _TEXT_COPIES + len(items) * _ITEM_BYTES
