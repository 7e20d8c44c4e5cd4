"""Projects, service accounts and API keys in Redis. Only this file and `rights.py` of this domain speak to it.

A project has name (sealed), created_at and archived_at; an account project, name (sealed) and created_at; a key mac,
kind, tenant, account, scopes, name (sealed), redacted and times. Ids, times and scopes are clear. Which keys live, and
whether a project is archived, is in `RightsStore`.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from cloister_gateway.identity.records import ORGANIZATION, AccountRecord, KeyRecord, Kind, ProjectRecord, StoredKey
from cloister_gateway.identity.rights import RightsStore
from cloister_gateway.identity.seals import Rights, Seals
from cloister_gateway.storage.layout import (
    IDENTITY_BOOTSTRAP,
    IDENTITY_PROJECTS,
    account_key,
    account_list_key,
    api_key_key,
    project_key,
    rights_key,
)

__all__ = ["IdentityStore"]


class IdentityStore:
    """Reads and writes the records above."""

    def __init__(self, redis: Redis, seals: Seals) -> None:
        self._redis = redis
        self._seals = seals
        self.rights = RightsStore(redis, seals)

    async def add_project(self, record: ProjectRecord) -> None:
        """Stores a new project."""
        name = await self._seals.seal_name(record.id, record.id, record.name)
        rights = await self._seals.seal_rights(record.id, Rights())
        async with self._redis.pipeline(transaction=True) as pipeline:
            _add(
                pipeline,
                project_key(record.id),
                {"name": name, "created_at": record.created_at},
                index=IDENTITY_PROJECTS,
                member=record.id,
            )
            pipeline.set(rights_key(record.id), rights)
            await pipeline.execute()

    async def project(self, project_id: str) -> ProjectRecord | None:
        """The project, archived or not. One without rights was never open to anyone: archived since it was made.

        Raises:
            VaultError: Its name or its rights are not what was written.
        """
        fields = await self._read(project_key(project_id))
        if not fields:
            return None
        name = await self._seals.open_name(project_id, project_id, fields[b"name"])
        rights = await self.rights.read(project_id)
        created_at = int(fields[b"created_at"])
        return ProjectRecord(project_id, name, created_at, created_at if rights is None else rights.archived_at)

    async def project_is_active(self, project_id: str) -> bool:
        """Whether there is such a project and it is not archived.

        Raises:
            VaultError: Its rights are not what was written.
        """
        rights = await self.rights.read(project_id)
        return rights is not None and rights.archived_at is None

    async def rename_project(self, record: ProjectRecord) -> None:
        """Replaces the name."""
        name = await self._seals.seal_name(record.id, record.id, record.name)
        await self._hash("hset", project_key(record.id), "name", name)

    async def archive_project(self, project_id: str) -> None:
        """Marks the project archived, once: a later call does not move the time."""
        now = int(time.time())

        def archived(rights: Rights) -> Rights:
            return rights if rights.archived_at is not None else replace(rights, archived_at=now)

        def write(pipeline: Pipeline) -> None:
            pipeline.hsetnx(project_key(project_id), "archived_at", str(now))

        await self.rights.change(project_id, archived, write)

    async def project_ids(self) -> list[str]:
        """All projects, oldest first."""
        return await self._ids(IDENTITY_PROJECTS)

    async def add_account(self, record: AccountRecord) -> None:
        """Stores a new service account."""
        name = await self._seals.seal_name(record.project, record.id, record.name)
        async with self._redis.pipeline(transaction=True) as pipeline:
            _add(
                pipeline,
                account_key(record.id),
                {"project": record.project, "name": name, "created_at": record.created_at},
                index=account_list_key(record.project),
                member=record.id,
            )
            await pipeline.execute()

    async def account(self, account_id: str) -> AccountRecord | None:
        """The service account, of whatever project: the caller compares."""
        fields = await self._read(account_key(account_id))
        if not fields:
            return None
        project = fields[b"project"].decode()
        name = await self._seals.open_name(project, account_id, fields[b"name"])
        return AccountRecord(account_id, project, name, int(fields[b"created_at"]))

    async def account_ids(self, project_id: str) -> list[str]:
        """The project's service accounts, oldest first."""
        return await self._ids(account_list_key(project_id))

    async def remove_account(self, record: AccountRecord) -> None:
        """Removes the account, not its keys."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(account_key(record.id))
            pipeline.zrem(account_list_key(record.project), record.id)
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

        def listed(rights: Rights) -> Rights:
            return replace(rights, keys=(*rights.keys, record.id))

        def write(pipeline: Pipeline) -> None:
            pipeline.hset(api_key_key(record.id), mapping=cast("dict[Any, Any]", fields))

        await self.rights.change(record.owner, listed, write)

    async def stored_key(self, key_id: str) -> StoredKey | None:
        """What authentication needs of a key that lives; its name stays sealed.

        Raises:
            VaultError: The rights of its owner are not what was written.
        """
        names = ["mac", "kind", "tenant", "scopes", "expires_at", "account"]
        values: Any = await self._hash("hmget", api_key_key(key_id), names)
        mac, kind, tenant, scopes, expires_at, account = values
        if mac is None:
            return None
        found = StoredKey(
            key_id,
            mac,
            _kind(kind),
            tenant.decode(),
            _scopes(scopes),
            _optional_int(expires_at),
            account=(account or b"").decode(errors="replace"),
        )
        rights = await self.rights.read(found.owner)
        if rights is None or key_id not in rights.keys:
            return None
        return replace(found, adopted=key_id in rights.adopted)

    async def key(self, key_id: str) -> KeyRecord | None:
        """The key, of whatever project: the caller compares."""
        fields = await self._read(api_key_key(key_id))
        if b"mac" not in fields:
            return None
        tenant = fields[b"tenant"].decode()
        return KeyRecord(
            id=key_id,
            mac=fields[b"mac"],
            kind=_kind(fields[b"kind"]),
            tenant=tenant,
            scopes=_scopes(fields[b"scopes"]),
            expires_at=_optional_int(fields.get(b"expires_at")),
            account=fields[b"account"].decode(),
            name=await self._seals.open_name(tenant or ORGANIZATION, key_id, fields[b"name"]),
            redacted=fields[b"redacted"].decode(),
            created_at=int(fields[b"created_at"]),
            last_used_at=_optional_int(fields.get(b"last_used_at")),
        )

    async def remove_key(self, record: KeyRecord) -> None:
        """Removes the key: it authenticates nobody from now on, even if its record were put back."""

        def unlisted(rights: Rights) -> Rights:
            keys = tuple(key_id for key_id in rights.keys if key_id != record.id)
            return replace(rights, keys=keys, adopted=rights.adopted - {record.id})

        def write(pipeline: Pipeline) -> None:
            pipeline.delete(api_key_key(record.id))

        await self.rights.change(record.owner, unlisted, write)

    async def touch_keys(self, used: dict[str, int]) -> None:
        """Writes the times of last use (key id → Unix seconds) of those keys that still exist."""
        for key_id, at in used.items():
            if await self._redis.exists(api_key_key(key_id)):
                await self._hash("hset", api_key_key(key_id), "last_used_at", str(at))

    async def hold_bootstrap(self) -> bool:
        """Takes the right to make the first keys for 30 s, so that two who start do not both make them."""
        return bool(await self._redis.set(IDENTITY_BOOTSTRAP, "1", nx=True, ex=30))

    async def release_bootstrap(self) -> None:
        """Gives it back."""
        await self._redis.delete(IDENTITY_BOOTSTRAP)

    async def _read(self, name: str) -> dict[bytes, bytes]:
        return cast("dict[bytes, bytes]", await self._hash("hgetall", name))

    async def _hash(self, command: str, *arguments: Any) -> Any:
        """redis-py types its asynchronous hash commands as value or awaitable; they are awaitables."""
        return await getattr(self._redis, command)(*arguments)

    async def _ids(self, index: str) -> list[str]:
        return [member.decode() for member in cast("list[bytes]", await self._redis.zrange(index, 0, -1))]


def _add(pipeline: Pipeline, name: str, fields: Mapping[str, Any], *, index: str, member: str) -> None:
    pipeline.hset(name, mapping=cast("dict[Any, Any]", fields))
    # Microseconds, so that the order within a second is that of creation.
    pipeline.zadd(index, {member: time.time_ns() // 1_000})


def _kind(value: bytes) -> Kind:
    return "admin" if value == b"admin" else "project"


def _scopes(value: bytes) -> frozenset[str]:
    return frozenset(filter(None, value.decode().split(",")))


def _optional_int(value: bytes | None) -> int | None:
    return None if value is None else int(value)
