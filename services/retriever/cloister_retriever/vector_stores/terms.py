"""The words of vector stores: the sealed postings of their attachments, and what of them is open in memory."""

import asyncio
import time
from collections import OrderedDict

from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, Keyring, VaultError, encode_context, open_record, seal
from prometheus_client import Gauge

from cloister_retriever.storage.layout import tenant_paths
from cloister_retriever.storage.objects import Objects, each
from cloister_retriever.terms.postings import Postings
from cloister_retriever.terms.store import Segment, StoreWords

__all__ = ["Words"]

log = get_logger(__name__)
_HELD = Gauge("cloister_words_bytes", "Bytes that are open of the words of vector stores.")
_TOO_LARGE = Gauge("cloister_words_too_large", "Vector stores that are searched by meaning alone: too large for more.")

_LOOK_SECONDS = 10.0
"""So long may the words of a file that was taken out of a store count in it."""


class _Open:
    """The words of one store."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.words = StoreWords()
        self.tags: dict[str, str] = {}
        """Of what is open, by attachment: another one when it was written anew."""
        self.grown_at = 0.0
        self.looked_at: float | None = None


class Words:
    """Writes the words of attachments, and opens those of a store.

    Args:
        objects: The object store.
        keyring: Of the retriever.
        most_bytes: Of what is open of all stores together. A store with more by itself has no words: its passages are
            found by their meaning alone, which the log and a metric say.
    """

    def __init__(self, objects: Objects, keyring: Keyring, *, most_bytes: int) -> None:
        self._objects = objects
        self._keyring = keyring
        self._most_bytes = most_bytes
        self._stores: OrderedDict[tuple[str, str], _Open] = OrderedDict()
        self._too_large: set[tuple[str, str]] = set()

    async def write(self, tenant: str, store_id: str, attachment_id: str, key: DataKey, postings: Postings) -> None:
        """Keeps the words of an attachment. They go with what else its ingestion left."""
        path = (await tenant_paths(self._keyring, tenant)).words_of(store_id, attachment_id)
        sealed = await asyncio.to_thread(
            lambda: seal(key.subkey("terms"), postings.encoded(), _context(tenant, store_id, attachment_id))
        )
        await self._objects.put(path, sealed)

    async def of(self, tenant: str, store_id: str, key: DataKey, grown_at: float) -> StoreWords:
        """Those of a store that last grew at ``grown_at`` (seconds since the epoch)."""
        name = (tenant, store_id)
        store = self._stores.setdefault(name, _Open())
        self._stores.move_to_end(name)
        async with store.lock:
            is_old = store.looked_at is None or time.monotonic() - store.looked_at >= _LOOK_SECONDS
            if is_old or store.grown_at != grown_at:
                looked_at = time.monotonic()
                await self._look(tenant, store_id, key, store)
                store.grown_at, store.looked_at = grown_at, looked_at
        self._make_room()
        return store.words

    async def _look(self, tenant: str, store_id: str, key: DataKey, store: _Open) -> None:
        """Opens what is new; all anew where something is gone."""
        paths = await tenant_paths(self._keyring, tenant)
        listed = await self._objects.list(paths.words(store_id))
        if not self._fits((tenant, store_id), sum(one.size for one in listed)):
            store.words, store.tags = StoreWords(), {}
            return
        there = {one.leaf: one.e_tag for one in listed}
        if not store.tags.items() <= there.items():
            store.words, store.tags = StoreWords(), {}

        async def read(attachment_id: str) -> Segment | None:
            sealed = await self._objects.get(paths.words_of(store_id, attachment_id))
            if sealed is None:
                return None
            context = _context(tenant, store_id, attachment_id)
            try:
                postings = await asyncio.to_thread(
                    lambda: Postings.decoded(open_record(key.subkey("terms"), sealed, context))
                )
            except VaultError:
                # Its passages are found by their meaning, as those are whose words were never taken.
                log.error("record_did_not_open", kind=Postings.__name__, id=attachment_id)
                return None
            return Segment(postings, [(attachment_id, postings.passages)])

        new = [segment for segment in await each(read, sorted(there.keys() - store.tags.keys())) if segment is not None]
        if new:
            store.words = await asyncio.to_thread(StoreWords, [*store.words.segments, *new])
        store.tags = there

    def _fits(self, name: tuple[str, str], size: int) -> bool:
        if size <= self._most_bytes:
            self._too_large.discard(name)
        elif name not in self._too_large:
            self._too_large.add(name)
            log.warning("search_by_meaning_alone", store=name[1], words_bytes=size, most_bytes=self._most_bytes)
        _TOO_LARGE.set(len(self._too_large))
        return name not in self._too_large

    def _make_room(self) -> None:
        held = {name: store.words.held_bytes for name, store in self._stores.items()}
        total = sum(held.values())
        for name, size in held.items():
            if total <= self._most_bytes:
                break
            del self._stores[name]
            total -= size
        _HELD.set(total)


def _context(tenant: str, store_id: str, attachment_id: str) -> bytes:
    return encode_context("words", tenant, store_id, attachment_id)
