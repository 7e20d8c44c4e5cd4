"""What ends at a time that is known when it is made: files that expire, uploads. A loop ends what is due.

The time stands in the name of the note, so that a sweep reads those that are due and no others. Nobody sees what has
expired from that moment on, by its own record; this is about what is stored of it. The loop runs in every process that
ingests; ending a thing twice does no harm.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from cloister_common.errors import NotFound, Unavailable
from cloister_common.logs import get_logger
from cloister_common.vault import Keyring, VaultError
from pydantic import BaseModel

from cloister_retriever.keys import system_key
from cloister_retriever.storage.layout import DUE
from cloister_retriever.storage.objects import ListedObject, Objects
from cloister_retriever.storage.records import SealedRecords

__all__ = ["Due", "End"]

log = get_logger(__name__)

End = Callable[[str, str], Awaitable[None]]
"""Takes (tenant, id) and ends what has this id. `NotFound` says that it is gone already."""

_SWEEP_SECONDS = 60.0
"""Sweeps are no rarer than this, and come at the time that something is due, as far as one has seen it."""


class Ends(BaseModel):
    """What is due."""

    tenant: str
    object_id: str


class Due:
    """What ends by itself, of all tenants."""

    def __init__(self, objects: Objects, keyring: Keyring, records: SealedRecords) -> None:
        self._objects = objects
        self._keyring = keyring
        self._records = records

    async def note(self, tenant: str, object_id: str, at: int) -> None:
        """Has the loop end the object at this time, in seconds since the epoch. It stays noted, whatever comes."""
        note = Ends(tenant=tenant, object_id=object_id)
        await self._records.put(f"{DUE}/{at:012d}-{object_id}", note, await system_key(self._keyring))

    async def sweep(self, end: End) -> float:
        """Ends what is due now. Seconds until the next is, as far as is known, at most a minute."""
        now = int(time.time())
        async for some in self._objects.between(DUE):
            for listed in some:
                at = int(listed.leaf.partition("-")[0])
                if at > now:
                    return min(_SWEEP_SECONDS, at - now)
                await self._end(listed, end)
        return _SWEEP_SECONDS

    async def run(self, end: End) -> None:
        """Sweeps for as long as the process lives."""
        while True:
            pause = _SWEEP_SECONDS
            try:
                pause = await self.sweep(end)
            except Unavailable as error:
                log.warning("due_sweep_waits", reason=error.error_code)
            await asyncio.sleep(pause)

    async def _end(self, listed: ListedObject, end: End) -> None:
        try:
            note = await self._records.get(listed.path, Ends, await system_key(self._keyring))
            if note is not None:
                with suppress(NotFound):
                    await end(note.tenant, note.object_id)
        except VaultError:
            # One that was tampered with must not keep the others from ending.
            log.error("due_did_not_open", object=listed.leaf)
            return
        await self._objects.delete(listed.path)
