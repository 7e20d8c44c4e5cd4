"""The passages of an attachment in one edition of its store, read back from whichever index has them."""

from dataclasses import dataclass

from cloister_common.logs import get_logger
from cloister_common.vault import VaultError

from cloister_retriever.editions import Edition
from cloister_retriever.index.passages import Passage, PassageOwner, open_passage, passage_id
from cloister_retriever.index.protocol import DROPPED, Index
from cloister_retriever.keys import PassageKeyring, PassageKeys
from cloister_retriever.sealed.indexes import Indexes
from cloister_retriever.settings import Protection
from cloister_retriever.vector_stores.records import AttachmentRecord
from cloister_retriever.vector_stores.service import OpenStore, VectorStoreService

__all__ = ["Source", "Sources"]

log = get_logger(__name__)


@dataclass(frozen=True)
class Source:
    """An attachment's passages, and what opens them."""

    protection: Protection
    index: Index
    owner: PassageOwner
    keys: PassageKeys

    async def read(self, positions: range) -> dict[int, Passage]:
        """Those of these passages that are there and open, by their positions, in order."""
        ids = {position: passage_id(self.keys, self.owner, position) for position in positions}
        rows = await self.index.read(self.owner.place, self.owner.attachment_id, ids)
        passages = {}
        for sealed in sorted(rows, key=lambda row: row.position):
            try:
                passage = open_passage(self.keys, self.owner, sealed)
            except VaultError:
                passage = None
            if passage is not None and ids.get(sealed.position) == sealed.id:
                passages[sealed.position] = passage
            else:
                DROPPED.labels("did_not_open").inc()
                log.error("passage_did_not_open", store=self.owner.store_id, passage=sealed.id)
        return passages


class Sources:
    """Finds them."""

    def __init__(self, stores: VectorStoreService, keys: PassageKeyring, indexes: Indexes) -> None:
        self._stores = stores
        self._keys = keys
        self._indexes = indexes

    async def of(self, tenant: str, opened: OpenStore, record: AttachmentRecord, edition: Edition) -> Source | None:
        """The passages of an attachment in an edition; None if its file is gone.

        A store that was sealed and outgrew that has some files in one index and some in the other.
        """
        keys = await self._keys.get(tenant, opened.key, record.file_id, edition.number)
        if keys is None:
            return None
        owner = PassageOwner(tenant, record.store_id, record.file_id, record.id, edition.number)
        first = {0: passage_id(keys, owner, 0)}
        *others, last = reversed(await self._stores.protections(tenant, opened))
        for protection in others:
            index = self._indexes.of(tenant, record.store_id, opened.key, protection, edition)
            if await index.read(owner.place, record.id, first):
                return Source(protection, index, owner, keys)
        return Source(last, self._indexes.of(tenant, record.store_id, opened.key, last, edition), owner, keys)
