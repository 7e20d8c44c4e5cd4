"""Which index a vector store has, by its protection."""

from cloister_common.vault import DataKey

from cloister_retriever.index.protocol import Index
from cloister_retriever.index.rotation import Rotations
from cloister_retriever.keys import PassageKeyring
from cloister_retriever.sealed.index import SealedIndex
from cloister_retriever.sealed.memory import OpenStores
from cloister_retriever.sealed.packs import Packs
from cloister_retriever.settings import Protection

__all__ = ["Indexes"]


class Indexes:
    """The index that ``standard`` stores share, and one for each that is ``sealed``."""

    def __init__(
        self, standard: Index, packs: Packs, stores: OpenStores, keys: PassageKeyring, rotations: Rotations
    ) -> None:
        self._standard = standard
        self._packs = packs
        self._stores = stores
        self._keys = keys
        self._rotations = rotations

    def of(self, tenant: str, key: DataKey, protection: Protection) -> Index:
        """The index of a store, for one job or one search."""
        if protection == "standard":
            return self._standard
        return SealedIndex(self._packs, self._stores, self._keys, self._rotations, tenant, key)

    async def delete(
        self, tenant: str, store_id: str, attachment_id: str | None = None, *, protection: Protection | None
    ) -> None:
        """Removes passages, without a key. Where the protection is not known any more, from both indexes."""
        if protection != "standard":
            await self._packs.remove(await self._packs.list(tenant, store_id, attachment_id))
            self._stores.forget(tenant, store_id, attachment_id)
        if protection != "sealed":
            await self._standard.delete(store_id, attachment_id)
