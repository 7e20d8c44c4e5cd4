"""What a search is about: the attachments of files that its caller sees.

They are left out, or chosen, before anything is ranked, so what a caller may not see takes no place among the
candidates. An index is told attachments one by one, so it is told the fewer: those that are hidden, or the others.
"""

from collections import OrderedDict
from collections.abc import Set
from typing import NamedTuple

from cloister_common.vault import DataKey

from cloister_retriever.vector_stores.attachments import AttachmentService

__all__ = ["Scope", "Scopes"]

_MOST_LEFT_OUT = 1000
"""Ids in one filter expression: about 60 kB."""

_FEW_HIDDEN = 100
"""So many attachments are looked up one by one; for more all of the store are listed."""

_KNOWN = 1000


class Scope(NamedTuple):
    """Attachments of one store.

    Attributes:
        only: These and no others, or None for all.
        without: Not these.
    """

    only: list[str] | None = None
    without: frozenset[str] = frozenset()


class Scopes:
    """Finds out what to search. It remembers, for stores that did not grow and lists that did not change.

    Args:
        attachments: Knows which files a store has.
    """

    def __init__(self, attachments: AttachmentService) -> None:
        self._attachments = attachments
        self._known: OrderedDict[tuple[str, Set[str]], tuple[float, Scope]] = OrderedDict()

    async def of(self, tenant: str, store_id: str, key: DataKey, hidden: Set[str], *, grown_at: float) -> Scope:
        """What to search in a store for a caller.

        Args:
            tenant: Whose store it is.
            store_id: The vector store.
            key: Its key.
            hidden: Files that the caller does not see, of whatever store.
            grown_at: When passages were last added to it.
        """
        if not hidden:
            return Scope()
        name = (store_id, hidden)
        known = self._known.get(name)
        if known is None or known[0] != grown_at:
            known = (grown_at, await self._find(tenant, store_id, key, hidden))
            self._known[name] = known
        self._known.move_to_end(name)
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return known[1]

    async def _find(self, tenant: str, store_id: str, key: DataKey, hidden: Set[str]) -> Scope:
        if len(hidden) <= _FEW_HIDDEN:
            few = await self._attachments.get_many(tenant, store_id, key, sorted(hidden))
            return Scope(without=frozenset(file.record.id for file in few.values()))
        there = await self._attachments.ids(tenant, store_id, key)
        without = frozenset(there[file_id] for file_id in hidden if file_id in there)
        if len(without) <= _MOST_LEFT_OUT:
            return Scope(without=without)
        return Scope(only=[attachment_id for file_id, attachment_id in there.items() if file_id not in hidden])
