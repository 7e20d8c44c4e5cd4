"""Projects, service accounts and API keys in Redis. Only this file and `rights.py` of this domain speak to it.

A project has name (sealed), created_at and archived_at; an account project, name (sealed) and created_at; a key mac,
kind, tenant, account, scopes, name and holder (sealed), redacted and times. Ids, times and scopes are clear. Which keys
live, and whether a project is archived, is in `RightsStore`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from cloister_common.vault import VaultError
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from cloister_gateway.identity.fields import StoredFields
from cloister_gateway.identity.records import ORGANIZATION, AccountRecord, KeyRecord, ProjectRecord, StoredKey
from cloister_gateway.identity.rights import RightsStore
from cloister_gateway.identity.seals import Rights, Seals
from cloister_gateway.storage import damage_told, is_wrong_type
from cloister_gateway.storage.client import is_cluster
from cloister_gateway.storage.layout import IdentityKeys

__all__ = ["IdentityStore"]

_GONE_SECONDS = 86_400


class IdentityStore:
    """Reads and writes the records above."""

    def __init__(self, redis: Redis, seals: Seals) -> None:
        self._redis = redis
        self._seals = seals
        self._keys = IdentityKeys(sharded=is_cluster(redis))
        self.rights = RightsStore(redis, seals)

    async def add_project(self, record: ProjectRecord) -> None:
        """Stores a new project."""
        name = await self._seals.seal_name(record.id, record.id, record.name)
        rights = await self._seals.seal_rights(record.id, Rights())
        async with self._redis.pipeline(transaction=True) as pipeline:
            _add(
                pipeline,
                self._keys.project(record.id),
                {"name": name, "created_at": record.created_at},
                index=self._keys.projects,
                member=record.id,
            )
            pipeline.set(self._keys.rights(record.id), rights)
            await pipeline.execute()

    async def project(self, project_id: str) -> ProjectRecord | None:
        """The project, archived or not. One without rights that open is open to nobody: archived since it was made."""
        found = await self._read("project", self._keys.project(project_id))
        if found is None:
            return None
        name = await found.name(self._seals, project_id, project_id)
        created_at = found.number("created_at")
        try:
            rights = await self.rights.read(project_id)
        except VaultError as error:
            found.damage("rights", error)
            rights = None
        archived_at = created_at if rights is None else rights.archived_at
        return ProjectRecord(project_id, name, created_at, archived_at, found.damaged)

    async def rename_project(self, record: ProjectRecord) -> None:
        """Replaces the name."""
        name = await self._seals.seal_name(record.id, record.id, record.name)
        await self._hash("hset", self._keys.project(record.id), "name", name)

    async def archive_project(self, project_id: str) -> None:
        """Marks the project archived, once: a later call does not move the time."""
        now = int(time.time())

        def archived(rights: Rights) -> Rights:
            return rights if rights.archived_at is not None else replace(rights, archived_at=now)

        def write(pipeline: Pipeline) -> None:
            pipeline.hsetnx(self._keys.project(project_id), "archived_at", str(now))

        await self.rights.change(project_id, archived, write)

    async def project_ids(self) -> list[str]:
        """All projects, oldest first."""
        return await self._ids(self._keys.projects)

    async def add_account(self, record: AccountRecord) -> None:
        """Stores a new service account."""
        name = await self._seals.seal_name(record.project, record.id, record.name)
        async with self._redis.pipeline(transaction=True) as pipeline:
            _add(
                pipeline,
                self._keys.account(record.id),
                {"project": record.project, "name": name, "created_at": record.created_at},
                index=self._keys.accounts(record.project),
                member=record.id,
            )
            await pipeline.execute()

    async def account(self, project_id: str, account_id: str) -> AccountRecord | None:
        """The service account, if it is listed among this project's."""
        listed: Any = await self._redis.zscore(self._keys.accounts(project_id), account_id)
        if listed is None:
            return None
        found = await self._read("service account", self._keys.account(account_id)) or StoredFields(account_id, {})
        if found.text("project") != project_id:
            found.damage("project")
        name = await found.name(self._seals, project_id, account_id)
        return AccountRecord(account_id, project_id, name, found.number("created_at"), found.damaged)

    async def account_ids(self, project_id: str) -> list[str]:
        """The project's service accounts, oldest first."""
        return await self._ids(self._keys.accounts(project_id))

    async def remove_account(self, record: AccountRecord) -> None:
        """Removes the account, not its keys."""
        ids = await self.account_ids(record.project)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(self._keys.account(record.id))
            pipeline.zrem(self._keys.accounts(record.project), record.id)
            _note_gone(pipeline, self._keys.gone(record.project, "accounts"), record.id, ids)
            await pipeline.execute()

    async def add_key(self, record: KeyRecord) -> None:
        """Stores a new key and lists it among its owner's."""
        fields: dict[str, Any] = {
            "mac": record.mac,
            "kind": record.kind,
            "tenant": record.tenant,
            "account": record.account,
            "scopes": ",".join(sorted(record.scopes)),
            "name": await self._seals.seal_name(record.owner, record.id, record.name),
            "redacted": record.redacted,
            "created_at": record.created_at,
        }
        if record.expires_at is not None:
            fields["expires_at"] = record.expires_at
        if record.user or record.groups:
            groups = sorted(record.groups)
            fields["holder"] = await self._seals.seal_holder(record.owner, record.id, record.user, groups)

        def listed(rights: Rights) -> Rights:
            # (It is listed already where the answer to a first try was lost.)
            return rights if record.id in rights.keys else replace(rights, keys=(*rights.keys, record.id))

        def write(pipeline: Pipeline) -> None:
            pipeline.hset(self._keys.key(record.id), mapping=cast("dict[Any, Any]", fields))

        await self.rights.change(record.owner, listed, write)

    async def stored_key(self, key_id: str) -> StoredKey | None:
        """What authentication needs of a key that lives; its name stays sealed.

        Raises:
            VaultError: It, or the rights of its owner, are not what was written.
        """
        names = ["mac", "kind", "tenant", "scopes", "expires_at", "account", "holder"]
        with damage_told(f"API key '{key_id}'"):
            values: Any = await self._hash("hmget", self._keys.key(key_id), names)
            mac, kind, tenant, scopes, expires_at, account, holder = values
            if mac is None:
                return None
            found = StoredKey(
                key_id,
                mac,
                "admin" if kind == b"admin" else "project",
                tenant.decode(),
                _scopes(scopes.decode()),
                None if expires_at is None else int(expires_at),
                account=(account or b"").decode(errors="replace"),
            )
        rights = await self.rights.read(found.owner)
        if rights is None or key_id not in rights.keys:
            return None
        if holder is not None:
            user, groups = await self._seals.open_holder(found.owner, key_id, holder)
            found = replace(found, user=user, groups=groups)
        return replace(found, adopted=key_id in rights.adopted, archived=rights.archived_at is not None)

    async def key(self, owner: str, key_id: str) -> KeyRecord | None:
        """The key, if the rights of ``owner`` (a project, or the `ORGANIZATION`) list it."""
        rights = await self.rights.read(owner)
        return await self._key(owner, key_id) if rights is not None and key_id in rights.keys else None

    async def keys(self, owner: str) -> list[KeyRecord]:
        """The keys that the rights of ``owner`` list, oldest first."""
        rights = await self.rights.read(owner)
        return [await self._key(owner, key_id) for key_id in (rights.keys if rights is not None else ())]

    async def _key(self, owner: str, key_id: str) -> KeyRecord:
        tenant = "" if owner == ORGANIZATION else owner
        found = await self._read("API key", self._keys.key(key_id)) or StoredFields(key_id, {})
        if found.text("tenant") != tenant:
            found.damage("tenant")
        user, groups = await found.holder(self._seals, owner, key_id)
        return KeyRecord(
            id=key_id,
            mac=found.raw("mac"),
            kind="project" if tenant else "admin",
            tenant=tenant,
            scopes=_scopes(found.text("scopes")),
            expires_at=found.optional_number("expires_at"),
            account=found.text("account"),
            name=await found.name(self._seals, owner, key_id),
            redacted=found.text("redacted"),
            created_at=found.number("created_at"),
            last_used_at=found.optional_number("last_used_at"),
            user=user,
            groups=groups,
            damaged=found.damaged,
        )

    async def remove_key(self, record: KeyRecord) -> None:
        """Removes the key: it authenticates nobody from now on, even if its record were put back."""

        before: tuple[str, ...] = ()

        def unlisted(rights: Rights) -> Rights:
            nonlocal before
            before = rights.keys
            keys = tuple(key_id for key_id in rights.keys if key_id != record.id)
            return replace(rights, keys=keys, adopted=rights.adopted - {record.id})

        def write(pipeline: Pipeline) -> None:
            pipeline.delete(self._keys.key(record.id))
            _note_gone(pipeline, self._keys.gone(record.owner, "keys"), record.id, before)

        await self.rights.change(record.owner, unlisted, write)

    async def gone(self, owner: str, what: Literal["accounts", "keys"]) -> dict[str, str]:
        """What was deleted lately from a list of ``owner``: by its id, the id that stood before it, if one did."""
        found = await self._hash("hgetall", self._keys.gone(owner, what))
        return {name.decode(): before.decode() for name, before in found.items()}

    async def touch_keys(self, used: dict[str, int]) -> None:
        """Writes the times of last use (key id → Unix seconds) of those keys that still exist."""
        for key_id, at in used.items():
            if await self._redis.exists(self._keys.key(key_id)):
                await self._hash("hset", self._keys.key(key_id), "last_used_at", str(at))

    async def hold_bootstrap(self) -> bool:
        """Takes the right to make the first keys for 30 s, so that two who start do not both make them."""
        return bool(await self._redis.set(self._keys.bootstrap, "1", nx=True, ex=30))

    async def release_bootstrap(self) -> None:
        """Gives it back."""
        await self._redis.delete(self._keys.bootstrap)

    async def _read(self, kind: str, name: str) -> StoredFields | None:
        """The record, or None if there is none. Something else in its place is a record with nothing in it."""
        try:
            fields = await self._hash("hgetall", name)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            return StoredFields(f"{kind} {name}", {})
        return StoredFields(f"{kind} {name}", fields) if fields else None

    async def _hash(self, command: str, *arguments: Any) -> Any:
        """redis-py types its asynchronous hash commands as value or awaitable; they are awaitables."""
        return await getattr(self._redis, command)(*arguments)

    async def _ids(self, index: str) -> list[str]:
        return [member.decode() for member in cast("list[bytes]", await self._redis.zrange(index, 0, -1))]


def _add(pipeline: Pipeline, name: str, fields: Mapping[str, Any], *, index: str, member: str) -> None:
    pipeline.hset(name, mapping=cast("dict[Any, Any]", fields))
    # Microseconds, so that the order within a second is that of creation.
    pipeline.zadd(index, {member: time.time_ns() // 1_000})


def _note_gone(pipeline: Pipeline, name: str, gone: str, ids: Sequence[str]) -> None:
    """Notes where ``gone`` stood, so that who deletes while listing can go on from there."""
    place = ids.index(gone) if gone in ids else 0
    pipeline.hset(name, gone, ids[place - 1] if place else "")
    pipeline.expire(name, _GONE_SECONDS)


def _scopes(value: str) -> frozenset[str]:
    return frozenset(filter(None, value.split(",")))
