"""What keys stand on, in Redis: one sealed record for each project, and one for the organization.

What ends a right is here and nowhere else: a key that is not listed opens nothing, whatever its own record says, and
without this record nothing of the owner does. So putting a revoked key's record back, or taking a project's
``archived_at`` away, gives nobody anything. (A project's record says that it is archived too, for gateways of an
earlier version. It is heeded, since it can only end something.)
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from typing import Any, cast

from cloister_common.logs import get_logger
from cloister_common.vault import VaultError
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.identity.seals import Rights, Seals
from cloister_gateway.storage.client import is_cluster
from cloister_gateway.storage.layout import IdentityKeys

__all__ = ["RightsStore"]

log = get_logger(__name__)


class RightsStore:
    """Reads and replaces rights."""

    def __init__(self, redis: Redis, seals: Seals) -> None:
        self._redis = redis
        self._seals = seals
        self._keys = IdentityKeys(sharded=is_cluster(redis))

    async def adopt(self) -> None:
        """Lists what an earlier version stored: once in the life of an installation, when it has no rights at all.

        Everything in one transaction, so that rights that are missing later were taken away and are not made again.
        Keys listed here are known as such: none that was made since can ever come to be among them.
        """
        async with self._redis.pipeline(transaction=True) as pipeline:
            while True:
                # A gateway of the earlier version may be making, revoking and archiving at this moment.
                await pipeline.watch(self._keys.projects, self._keys.rights(ORGANIZATION))
                if await pipeline.exists(self._keys.rights(ORGANIZATION)):
                    return
                async for name in self._redis.scan_iter(match=self._keys.rights("*")):
                    log.error("rights_missing", owner=ORGANIZATION, found=name.decode())
                    return
                members: Any = await pipeline.zrange(self._keys.projects, 0, -1)
                owners = [ORGANIZATION, *(member.decode() for member in members)]
                await pipeline.watch(
                    *(key(owner) for owner in owners for key in (self._keys.unlisted_keys, self._keys.project))
                )
                found = {owner: await self._unlisted(owner) for owner in owners}
                sealed = {
                    self._keys.rights(owner): await self._seals.seal_rights(owner, found[owner]) for owner in owners
                }
                pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                pipeline.mset(cast("Mapping[Any, Any]", sealed))
                pipeline.delete(*(self._keys.unlisted_keys(owner) for owner in owners))
                try:
                    await pipeline.execute()
                except WatchError:
                    continue
                if count := sum(len(rights.keys) for rights in found.values()):
                    log.warning("keys_adopted", keys=count)
                return

    async def read(self, owner: str) -> Rights | None:
        """What the keys of ``owner`` stand on, or None: then none of them opens anything.

        Raises:
            VaultError: They are not what was written.
        """
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.get(self._keys.rights(owner))
            pipeline.hget(self._keys.project(owner), "archived_at")
            sealed, archived_at = await pipeline.execute()
        return await self._open(owner, sealed, archived_at)

    async def live(self, keys: Mapping[str, Set[str]]) -> set[str]:
        """Which of ``keys`` (ids by owner) are neither revoked nor of an archived project."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for owner, ids in keys.items():
                pipeline.get(self._keys.rights(owner))
                pipeline.hget(self._keys.project(owner), "archived_at")
                for key_id in ids:
                    pipeline.exists(self._keys.key(key_id))
            answers = iter(await pipeline.execute())
        found: set[str] = set()
        for owner, ids in keys.items():
            sealed, archived_at = next(answers), next(answers)
            stored = {key_id for key_id in ids if next(answers)}
            try:
                rights = await self._open(owner, sealed, archived_at)
            except VaultError as error:
                log.error("rights_damaged", owner=owner, exc_info=error)
                continue
            if rights is not None and rights.archived_at is None:
                found |= stored & set(rights.keys)
        return found

    async def change(self, owner: str, change: Callable[[Rights], Rights], write: Callable[[Pipeline], None]) -> None:
        """Replaces the owner's rights and does what ``write`` queues, in one transaction, on the newest rights."""
        name = self._keys.rights(owner)
        async with self._redis.pipeline(transaction=True) as pipeline:
            while True:
                await pipeline.watch(name)
                standing: Any = await pipeline.get(name)
                rights = await self._open(owner, standing, None)
                sealed = await self._seals.seal_rights(owner, change(rights or Rights()))
                pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                pipeline.set(name, sealed)
                write(pipeline)
                try:
                    await pipeline.execute()
                except WatchError:
                    continue
                return

    async def _open(self, owner: str, sealed: bytes | None, archived_at: bytes | None) -> Rights | None:
        if sealed is None:
            return None
        rights = await self._seals.open_rights(owner, sealed)
        if rights.archived_at is None and archived_at is not None:
            return replace(rights, archived_at=int(archived_at))
        return rights

    async def _unlisted(self, owner: str) -> Rights:
        """The rights that an earlier version meant by its index of keys and a field of the project."""
        members: Any = await self._redis.zrange(self._keys.unlisted_keys(owner), 0, -1)
        # redis-py types its asynchronous hash commands as value or awaitable.
        archived_at: Any = await cast("Any", self._redis.hget(self._keys.project(owner), "archived_at"))
        ids = tuple(member.decode() for member in members)
        return Rights(ids, frozenset(ids), None if archived_at is None else int(archived_at))
