"""How often terms are in a vector store: the sealed counts of its attachments, and their sum, kept while it holds."""

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, Keyring, VaultError, encode_context, open_record, seal

from cloister_retriever.storage.layout import tenant_paths
from cloister_retriever.storage.objects import Objects, each
from cloister_retriever.terms.statistics import TermCounts
from cloister_retriever.terms.weights import Frequencies

__all__ = ["TermStatistics"]

log = get_logger(__name__)

_CACHED_STORES = 64
"""A store of 10,000 passages has some 100,000 terms, eight bytes each."""


class _Sum(NamedTuple):
    grown_at: float
    attachments: frozenset[str]
    counts: TermCounts


class TermStatistics:
    """Writes the counts of attachments, and adds up those of a store."""

    def __init__(self, objects: Objects, keyring: Keyring) -> None:
        self._objects = objects
        self._keyring = keyring
        self._sums: OrderedDict[tuple[str, str], _Sum] = OrderedDict()

    async def write(self, tenant: str, store_id: str, attachment_id: str, key: DataKey, counts: TermCounts) -> None:
        """Keeps the counts of an attachment. They go with what else its ingestion left."""
        path = (await tenant_paths(self._keyring, tenant)).term_counts(store_id, attachment_id)
        sealed = await asyncio.to_thread(
            lambda: seal(key.subkey("metadata"), counts.encoded(), _context(tenant, store_id, attachment_id))
        )
        await self._objects.put(path, sealed)

    async def frequencies(self, tenant: str, store_id: str, key: DataKey, grown_at: float) -> Frequencies:
        """Of a store that last grew at ``grown_at``. What was removed since then may still be counted."""
        name = (tenant, store_id)
        known = self._sums.get(name)
        if known is None or known.grown_at != grown_at:
            known = self._sums[name] = await self._add_up(tenant, store_id, key, grown_at, known)
        self._sums.move_to_end(name)
        while len(self._sums) > _CACHED_STORES:
            self._sums.popitem(last=False)
        return known.counts.frequencies()

    async def _add_up(self, tenant: str, store_id: str, key: DataKey, grown_at: float, known: _Sum | None) -> _Sum:
        paths = await tenant_paths(self._keyring, tenant)
        there = frozenset(listed.leaf for listed in await self._objects.list(paths.terms(store_id)))
        parts: list[TermCounts] = []
        have: frozenset[str] = frozenset()
        if known is not None and known.attachments <= there:
            parts, have = [known.counts], known.attachments

        async def read(attachment_id: str) -> TermCounts | None:
            sealed = await self._objects.get(paths.term_counts(store_id, attachment_id))
            if sealed is None:
                return None
            try:
                data = open_record(key.subkey("metadata"), sealed, _context(tenant, store_id, attachment_id))
                return TermCounts.decoded(data)
            except VaultError:
                # Its passages are found all the same; their terms only count as rarer than they are.
                log.error("record_did_not_open", kind=TermCounts.__name__, id=attachment_id)
                return None

        parts += [part for part in await each(read, there - have) if part is not None]
        return _Sum(grown_at, there, await asyncio.to_thread(TermCounts.sum_of, parts))


def _context(tenant: str, store_id: str, attachment_id: str) -> bytes:
    return encode_context("term-counts", tenant, store_id, attachment_id)
