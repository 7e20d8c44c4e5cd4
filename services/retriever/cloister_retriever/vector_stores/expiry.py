"""Vector stores that expire: who they are is durable, and a loop empties those whose time has come.

An expired store is refused to searches at once, by its record; this is about what it still holds. The loop runs in
every process that ingests; emptying a store twice does no harm.
"""

import asyncio
from collections.abc import Awaitable, Callable

from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from cloister_common.vault import Keyring, VaultError
from pydantic import BaseModel

from cloister_retriever.keys import system_key
from cloister_retriever.storage.layout import EXPIRING
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import SealedRecords

__all__ = ["Expiries"]

log = get_logger(__name__)

_SWEEP_SECONDS = 600.0
"""Expiry counts in days."""


class _Marker(BaseModel):
    """Whose store may expire."""

    tenant: str
    store_id: str


class Expiries:
    """The stores that have an expiry, of all tenants."""

    def __init__(self, objects: Objects, keyring: Keyring, records: SealedRecords) -> None:
        self._objects = objects
        self._keyring = keyring
        self._records = records

    async def watch(self, tenant: str, store_id: str) -> None:
        """Makes the store one that the loop looks at."""
        marker = _Marker(tenant=tenant, store_id=store_id)
        await self._records.put(f"{EXPIRING}/{store_id}", marker, await system_key(self._keyring))

    async def forget(self, store_id: str) -> None:
        """The store is gone, emptied, or does not expire any more."""
        await self._objects.delete(f"{EXPIRING}/{store_id}")

    async def sweep(self, settle: Callable[[str, str], Awaitable[bool]]) -> None:
        """Asks ``settle(tenant, store id)`` for each store; it says whether the store needs no watching any more."""
        key = await system_key(self._keyring)
        for listed in await self._objects.list(EXPIRING):
            try:
                marker = await self._records.get(listed.path, _Marker, key)
                settled = marker is not None and await settle(marker.tenant, marker.store_id)
            except VaultError:
                # One store that was tampered with must not keep the others from expiring.
                log.error("expiry_did_not_open", store=listed.leaf)
                continue
            if settled:
                await self.forget(listed.leaf)

    async def run(self, settle: Callable[[str, str], Awaitable[bool]]) -> None:
        """Sweeps for as long as the process lives."""
        while True:
            try:
                await self.sweep(settle)
            except Unavailable as error:
                log.warning("expiry_sweep_waits", reason=error.error_code)
            await asyncio.sleep(_SWEEP_SECONDS)
