"""Which index a vector store has, by its protection and edition."""

from collections.abc import Awaitable, Callable

from cloister_common.vault import DataKey

from cloister_retriever.editions import Edition, Place
from cloister_retriever.index.protocol import Index
from cloister_retriever.index.rotation import Rotations
from cloister_retriever.keys import PassageKeyring
from cloister_retriever.sealed.index import SealedIndex
from cloister_retriever.sealed.memory import OpenStores
from cloister_retriever.sealed.packs import Packs
from cloister_retriever.settings import Protection
from cloister_retriever.storage.editions import EditionLog

__all__ = ["Indexes"]


Deletes = Callable[[str, str, str | None, Protection | None], Awaitable[None]]
"""Removes the same of another space: tenant, store, attachment, protection."""


class Indexes:
    """The index that ``standard`` stores with the same embedding model share, and one for each that is ``sealed``.

    Args:
        standard: Gives that of an embedding model.
        packs: Of sealed stores.
        stores: Those that are open.
        keys: Of passages.
        rotations: Of all stores.
        log: Which editions a store has.
        besides: Removes what else is there of files and stores that are removed.
    """

    def __init__(
        self,
        standard: Callable[[str], Index],
        packs: Packs,
        stores: OpenStores,
        keys: PassageKeyring,
        rotations: Rotations,
        log: EditionLog,
        besides: Deletes | None = None,
    ) -> None:
        self._standard = standard
        self._packs = packs
        self._stores = stores
        self._keys = keys
        self._rotations = rotations
        self._log = log
        self._besides = besides

    def of(self, tenant: str, store_id: str, key: DataKey, protection: Protection, edition: Edition) -> Index:
        """The index of a store's edition, for one job or one search."""
        if protection == "standard":
            return self._standard(edition.model)
        place = Place(store_id, edition.number)
        return SealedIndex(self._packs, self._stores, self._keys, self._rotations, tenant, place, key)

    async def delete(
        self,
        tenant: str,
        store_id: str,
        attachment_id: str | None = None,
        *,
        protection: Protection | None,
        edition: Edition | None = None,
    ) -> None:
        """Removes passages of an edition or of all, without a key. Where the protection is not known any more, from
        both indexes. Who removes a whole store removes all that is known of its editions with it."""
        for edition_of in await self._log.all(tenant, store_id) if edition is None else [edition]:
            place = Place(store_id, edition_of.number)
            if protection != "standard":
                await self._packs.remove(tenant, place.name, attachment_id)
                self._stores.forget(tenant, place, attachment_id)
            if protection != "sealed":
                await self._standard(edition_of.model).delete(place.name, attachment_id)
        if edition is None and self._besides is not None:
            await self._besides(tenant, store_id, attachment_id, protection)
        if edition is None and attachment_id is None:
            await self._log.forget(tenant, store_id)
