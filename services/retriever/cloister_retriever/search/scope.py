"""Which files a search is about, as an index is asked: all but those that the caller does not see.

An index filters before it ranks, so what a caller may not see takes no place among the candidates. A filter names
files one by one, so it names the fewer: those that are hidden, or those that are not.
"""

from collections import OrderedDict
from collections.abc import Sequence, Set

from cloister_retriever.index.protocol import Files
from cloister_retriever.vector_stores.attachments import AttachmentService

__all__ = ["Scopes"]

_FILES_A_FILTER = 1000
"""Ids in one filter expression: about 60 kB."""

_STORES_KNOWN = 100


class Scopes:
    """Finds out what to ask for. Of stores that did not grow it remembers which files they have.

    Args:
        attachments: Lists the files of a store.
    """

    def __init__(self, attachments: AttachmentService) -> None:
        self._attachments = attachments
        self._known: OrderedDict[str, tuple[float, frozenset[str]]] = OrderedDict()

    async def of(
        self, tenant: str, store_id: str, hidden: Set[str], *, grown_at: float
    ) -> Sequence[Files] | Sequence[None]:
        """What to search for, in as many searches; nothing where the caller sees no file of the store.

        Args:
            tenant: Whose store it is.
            store_id: The vector store.
            hidden: Files that the caller does not see, of whatever store.
            grown_at: When passages were last added to it.
        """
        if not hidden:
            return [None]
        if len(hidden) <= _FILES_A_FILTER:
            return [Files(hidden, excluded=True)]
        there = await self._files(tenant, store_id, grown_at)
        inside = there & hidden
        if not inside:
            return [None]
        if len(inside) <= _FILES_A_FILTER:
            return [Files(inside, excluded=True)]
        seen = sorted(there - hidden)
        return [
            Files(seen[first : first + _FILES_A_FILTER], excluded=False)
            for first in range(0, len(seen), _FILES_A_FILTER)
        ]

    async def _files(self, tenant: str, store_id: str, grown_at: float) -> frozenset[str]:
        """The files of a store that have passages, and maybe some that were detached since."""
        known = self._known.get(store_id)
        if known is None or known[0] != grown_at:
            known = (grown_at, frozenset(await self._attachments.file_ids(tenant, store_id)))
            self._known[store_id] = known
        self._known.move_to_end(store_id)
        while len(self._known) > _STORES_KNOWN:
            self._known.popitem(last=False)
        return known[1]
