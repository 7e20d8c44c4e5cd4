"""Notes of ingestions that are to be paid for: written by whoever does them, answered and taken away by gateways.

One object for each, under its attachment's id. Several may change it at once, a worker that ends, one that took its job
over, and a gateway: each change follows what it has read, or is made anew.
"""

from collections.abc import Callable

from cloister_common.vault import DataKey, Keyring
from cloister_common.wire.ingestions import IngestionNote, Word

from cloister_retriever.keys import system_key
from cloister_retriever.storage.layout import CHARGES
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import RecordKind, SealedRecords

__all__ = ["Charges"]

_MOST_TOLD = 500
"""Notes that a gateway is told of at a time."""


class Charges:
    """The notes of all tenants."""

    def __init__(self, objects: Objects, keyring: Keyring, records: SealedRecords) -> None:
        self._objects = objects
        self._keyring = keyring
        self._records = records

    async def find(self, attachment_id: str) -> IngestionNote | None:
        """The note of an ingestion."""
        return await self._records.get(_path(attachment_id), IngestionNote, await system_key(self._keyring))

    async def change(
        self, attachment_id: str, change: Callable[[IngestionNote | None], IngestionNote | None]
    ) -> IngestionNote | None:
        """Makes of a note, or of None where there is none, what ``change`` says; None leaves it. Returns what stands
        then."""
        key = await system_key(self._keyring)
        return await self._records.change(_path(attachment_id), IngestionNote, key, change)

    async def tell(self, attachment_id: str, word: Word) -> None:
        """A gateway's word to an ingestion that asks; any other does not hear it."""

        def told(note: IngestionNote | None) -> IngestionNote | None:
            if note is None or note.state not in {"asks", "waits"}:
                return None
            return note.model_copy(update={"state": word.state, "message": word.message})

        await self.change(attachment_id, told)

    async def drop(self, attachment_id: str) -> None:
        """Takes a note away; no error if there is none."""
        await self._records.delete(_path(attachment_id))

    async def all(self) -> list[IngestionNote]:
        """Those there are, the oldest first, and not more than a gateway is told of at a time."""
        key = await system_key(self._keyring)

        async def key_of(_: str) -> DataKey | None:
            return key

        listed = sorted(await self._objects.list(CHARGES), key=lambda one: one.leaf)
        return await self._records.read(listed[:_MOST_TOLD], RecordKind(IngestionNote, key_of))


def _path(attachment_id: str) -> str:
    return f"{CHARGES}/{attachment_id}"
