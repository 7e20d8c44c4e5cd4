"""Which editions a vector store has: a log of states, of which the last one counts.

A state is created once, under the number after the one that it follows, and stays. So of several who change a store's
editions at a time one does, and a process that was only slow changes nothing any more. The log hangs on no key of the
store's: what the store has can still be cleared away when its key is gone.
"""

import time
from collections import OrderedDict
from typing import Literal

from cloister_common.errors import Conflict
from cloister_common.logs import get_logger
from cloister_common.vault import Keyring, VaultError
from pydantic import BaseModel

from cloister_retriever.editions import Edition, Place
from cloister_retriever.keys import system_key
from cloister_retriever.storage.layout import tenant_paths
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import SealedRecords

__all__ = ["Comparison", "EditionLog", "Editions", "Switching"]

log = get_logger(__name__)

_KNOWN = 10_000

Switching = Literal["auto", "manual"]
"""Whether a new edition is searched as soon as it finds its samples about as well as the old one."""


class Comparison(BaseModel):
    """How the two editions of a store find the same samples, by meaning alone.

    Attributes:
        samples: Passages of which a sentence was searched for.
        before: The mean of 1 over the place in which the edition that is searched finds the passage (0 beyond ten).
        after: The same of the edition beside.
        agreement: The mean share of the first ten passages that both have in common.
    """

    samples: int
    before: float
    after: float
    agreement: float


class Editions(BaseModel):
    """What a store has: the edition that is searched, and one beside that is being filled or was searched before."""

    number: int = 0
    serving: Edition
    beside: Edition | None = None
    ready: bool = False
    """Whether the later one of both was filled."""

    switching: Switching = "manual"
    """What becomes of one that is ready and was not searched yet."""

    failure: str | None = None
    """Why the one beside cannot be filled."""

    comparison: Comparison | None = None
    created_at: int | None = None
    """When the later edition of both was begun, in seconds since the epoch."""

    @property
    def all(self) -> list[Edition]:
        return [self.serving] if self.beside is None else [self.serving, self.beside]

    def begun(self, model: str, switching: Switching) -> "Editions":
        """The state that follows when an edition is begun beside."""
        beside = Edition(number=self.number + 1, model=model)
        return Editions(serving=self.serving, beside=beside, switching=switching, created_at=int(time.time()))

    def compared(self, comparison: Comparison | None) -> "Editions":
        """The state that follows when the edition beside was filled."""
        return self.model_copy(update={"ready": True, "comparison": comparison})

    def failed(self, message: str) -> "Editions":
        """The state that follows when the edition beside cannot be filled."""
        return self.model_copy(update={"failure": message})

    def switched(self) -> "Editions":
        """The state that follows when both change places."""
        assert self.beside is not None
        update = {"serving": self.beside, "beside": self.serving, "switching": "manual"}
        return self.model_copy(update=update)

    def ended(self) -> "Editions":
        """The state that follows when the one beside is given up."""
        return Editions(serving=self.serving)


class EditionLog:
    """The editions of the vector stores of all tenants.

    Args:
        objects: The object store.
        keyring: Of the retriever.
        records: Over both.
        model: The embedding model of new stores, and of those of the version before of which nothing else is known.
    """

    def __init__(self, objects: Objects, keyring: Keyring, records: SealedRecords, model: str) -> None:
        self.model = model
        self._objects = objects
        self._keyring = keyring
        self._records = records
        self._known: OrderedDict[tuple[str, str], tuple[int, Editions | None]] = OrderedDict()

    async def get(self, tenant: str, store_id: str) -> Editions | None:
        """What a store has; None if it was made before there were editions. What is known costs one look whether
        anything has followed.

        Raises:
            VaultError: It does not open.
        """
        paths, key = await tenant_paths(self._keyring, tenant), await system_key(self._keyring)
        name = (tenant, store_id)
        if name not in self._known:
            listed = await self._objects.list(paths.editions(store_id))
            number = int(listed[-1].leaf) if listed else 0
            self._remember(name, number, await self._records.get(paths.edition(store_id, number), Editions, key))
        number, editions = self._known[name]
        while (following := await self._records.get(paths.edition(store_id, number + 1), Editions, key)) is not None:
            number, editions = number + 1, following
        self._remember(name, number, editions)
        return editions

    async def all(self, tenant: str, store_id: str) -> list[Edition]:
        """The editions that a store may have anything in, for whoever clears it away."""
        try:
            found = await self.get(tenant, store_id)
        except VaultError:
            log.error("record_did_not_open", kind=Editions.__name__, id=store_id)
            found = None
        return [Edition(model=self.model)] if found is None else found.all

    async def create(self, tenant: str, store_id: str, edition: Edition) -> None:
        """Notes the first edition of a new store."""
        path = (await tenant_paths(self._keyring, tenant)).edition(store_id, 0)
        await self._records.create(path, Editions(serving=edition), await system_key(self._keyring))

    async def change(self, tenant: str, store_id: str, before: Editions, after: Editions) -> Editions:
        """Makes ``after`` what follows ``before``.

        Raises:
            Conflict: Something else has followed it already.
        """
        paths, key = await tenant_paths(self._keyring, tenant), await system_key(self._keyring)
        after = after.model_copy(update={"number": before.number + 1})
        if not await self._records.create(paths.edition(store_id, after.number), after, key):
            raise Conflict(
                "What this vector store is searched by was changed by somebody else at the same moment. Look at it "
                f"with GET /cloister/v1/vector_stores/{store_id}/reembed, and decide again.",
                code="reembedding_changed",
            )
        return after

    async def forget(self, tenant: str, store_id: str) -> None:
        """Removes the log of a store that is gone."""
        await self._objects.delete_all((await tenant_paths(self._keyring, tenant)).editions(store_id))

    # Which attachments are just being written into an edition: else what a process wrote that died, of a file that was
    # detached meanwhile, could not be found again.

    async def note_copying(self, tenant: str, place: Place, attachment_id: str) -> None:
        await self._objects.put((await tenant_paths(self._keyring, tenant)).copying_of(place.name, attachment_id), b"")

    async def forget_copying(self, tenant: str, place: Place, attachment_id: str) -> None:
        await self._objects.delete((await tenant_paths(self._keyring, tenant)).copying_of(place.name, attachment_id))

    async def copying(self, tenant: str, place: Place) -> list[str]:
        listed = await self._objects.list((await tenant_paths(self._keyring, tenant)).copying(place.name))
        return [one.leaf for one in listed]

    def _remember(self, name: tuple[str, str], number: int, editions: Editions | None) -> None:
        self._known[name] = (number, editions)
        self._known.move_to_end(name)
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)
