"""The models that the administration has entered, in Redis: one record, sealed under a key of the organization's.

All of them are one record, so that a gateway has what was entered together or not at all, and a model that was taken
out cannot be put back alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from cloister_common.vault import DataKey, Keyring, encode_context, open_record, seal
from redis.asyncio import Redis
from redis.exceptions import WatchError

from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.storage.layout import CATALOG, CATALOG_KEY

__all__ = ["CatalogStore", "Entries", "Entry"]

_CONTEXT = encode_context("catalog-models")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model as it was entered.

    Attributes:
        fields: What was said of it, as JSON values; what was not said is not there, and has the default of the release
            that reads it.
        created_at: When it was entered first (Unix seconds).
    """

    fields: Mapping[str, Any]
    created_at: int


Entries = dict[str, Entry]
"""The models by name."""


class CatalogStore:
    """Reads and changes the record."""

    def __init__(self, redis: Redis, keyring: Keyring) -> None:
        self._redis = redis
        self._keyring = keyring

    async def read(self) -> Entries:
        """What has been entered.

        Raises:
            VaultError: It is not what was written.
        """
        standing: Any = await self._redis.get(CATALOG_KEY)
        return await self._open(standing)

    async def change(self, change: Callable[[Entries], Entries]) -> Entries:
        """Replaces the record by what ``change`` makes of the newest one, and gives that. ``change`` may raise.

        Raises:
            VaultError: As `read`.
        """
        async with self._redis.pipeline(transaction=True) as pipeline:
            while True:
                await pipeline.watch(CATALOG_KEY)
                standing: Any = await pipeline.get(CATALOG_KEY)
                entries = change(await self._open(standing))
                value = {
                    name: {"fields": entry.fields, "created_at": entry.created_at} for name, entry in entries.items()
                }
                sealed = seal((await self._key()).subkey("models"), orjson.dumps(value), _CONTEXT)
                pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                pipeline.set(CATALOG_KEY, sealed)
                try:
                    await pipeline.execute()
                except WatchError:
                    continue
                return entries

    async def _open(self, sealed: bytes | None) -> Entries:
        if sealed is None:
            return {}
        value = orjson.loads(open_record((await self._key()).subkey("models"), sealed, _CONTEXT))
        return {name: Entry(one["fields"], one["created_at"]) for name, one in value.items()}

    async def _key(self) -> DataKey:
        return await self._keyring.obtain(ORGANIZATION, CATALOG, ORGANIZATION)
