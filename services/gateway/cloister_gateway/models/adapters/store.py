"""Adapters in Redis: one sealed record for each, in one hash. Only this file of this domain speaks to it.

Names can tell who trains what for whom, so what Redis sees of them is a name that the organization's naming key made.
"""

from collections.abc import Callable
from typing import Any, cast

from cloister_common.logs import get_logger
from cloister_common.vault import Keyring, VaultError
from redis.asyncio import Redis
from redis.exceptions import WatchError

from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.models.adapters.records import AdapterRecord
from cloister_gateway.storage.layout import ADAPTERS, ADAPTERS_SET
from cloister_gateway.storage.records import KeyedObject, SealedField

__all__ = ["AdapterStore", "Change"]

log = get_logger(__name__)

_RECORD = SealedField("adapter", AdapterRecord)

Change = Callable[[AdapterRecord | None], AdapterRecord | None]
"""Makes an adapter's next record of the one that stands; None is none. It may be asked more than once."""


class AdapterStore:
    """Reads and replaces records."""

    def __init__(self, redis: Redis, keyring: Keyring) -> None:
        self._redis = redis
        self._keyring = keyring

    async def all(self) -> list[AdapterRecord]:
        """All adapters, oldest first. One whose record is damaged is not among them."""
        # redis-py types its asynchronous hash commands as value or awaitable.
        found: dict[bytes, bytes] = await cast("Any", self._redis.hgetall(ADAPTERS_SET))
        records = []
        for field, sealed in found.items():
            name = field.decode(errors="replace")
            try:
                records.append(_RECORD.open(await self._keyed(name), sealed))
            except VaultError as error:
                log.error("adapter_damaged", adapter=name, exc_info=error)
        return sorted(records, key=lambda record: (record.created_at, record.name))

    async def change(self, name: str, change: Change) -> AdapterRecord | None:
        """Puts what ``change`` makes of the newest record in its place. Returns it.

        Raises:
            VaultError: The record is damaged.
        """
        field = await self._keyring.name(ORGANIZATION, ADAPTERS, name)
        keyed = await self._keyed(field)
        async with self._redis.pipeline(transaction=True) as pipeline:
            while True:
                await pipeline.watch(ADAPTERS_SET)
                sealed: Any = await cast("Any", pipeline.hget(ADAPTERS_SET, field))
                record = change(None if sealed is None else _RECORD.open(keyed, sealed))
                pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                if record is None:
                    pipeline.hdel(ADAPTERS_SET, field)
                else:
                    pipeline.hset(ADAPTERS_SET, field, cast("Any", _RECORD.seal(keyed, record)))
                try:
                    await pipeline.execute()
                except WatchError:
                    continue
                return record

    async def _keyed(self, field: str) -> KeyedObject:
        """What seals a record: under the organization's key, since adapters are not a project's to say."""
        return KeyedObject(ADAPTERS, field, await self._keyring.obtain(ORGANIZATION, ADAPTERS, ORGANIZATION))
