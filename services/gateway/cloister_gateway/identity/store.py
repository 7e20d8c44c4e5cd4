"""Projects, service accounts and API keys in Redis. The only file of this domain that speaks to it.

    identity:project:{id}     hash  name (sealed), created_at, archived_at
    identity:projects         zset  ids by time
    identity:account:{id}     hash  project, role, name (sealed), created_at
    identity:accounts:{project}  zset
    identity:key:{id}         hash  mac, kind, tenant, account, scopes, name (sealed), redacted, times
    identity:keys:{owner}     zset  ids by time; the owner is a project's id or ``organization``

Names are sealed before they come here; ids, times and scopes are clear.
"""

import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Literal, cast

from redis.asyncio import Redis

__all__ = ["ORGANIZATION", "AccountRecord", "IdentityStore", "KeyRecord", "ProjectRecord"]

ORGANIZATION = "organization"
"""Stands where a project's id would, for the keys that administer all of them."""


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """A project, that is, a tenant."""

    id: str
    name: bytes
    created_at: int
    archived_at: int | None = None


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """A service account of a project."""

    id: str
    project: str
    name: bytes
    role: Literal["member", "owner", "none"]
    created_at: int


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key as it is stored: everything but the secret."""

    id: str
    mac: bytes
    kind: Literal["project", "admin"]
    tenant: str
    account: str
    scopes: frozenset[str]
    name: bytes
    redacted: str
    created_at: int
    expires_at: int | None = None
    last_used_at: int | None = None

    @property
    def owner(self) -> str:
        """The project's id, or `ORGANIZATION`."""
        return self.tenant or ORGANIZATION


class IdentityStore:
    """Reads and writes the records above."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add_project(self, record: ProjectRecord) -> None:
        """Stores a new project."""
        await self._add(
            f"identity:project:{record.id}",
            {"name": record.name, "created_at": record.created_at},
            "identity:projects",
            record.id,
        )

    async def project(self, project_id: str) -> ProjectRecord | None:
        """The project, archived or not."""
        fields = await self._read(f"identity:project:{project_id}")
        if not fields:
            return None
        return ProjectRecord(
            project_id, fields[b"name"], int(fields[b"created_at"]), _optional_int(fields.get(b"archived_at"))
        )

    async def rename_project(self, project_id: str, name: bytes) -> None:
        """Replaces the sealed name."""
        await _done(self._redis.hset(f"identity:project:{project_id}", "name", cast("Any", name)))

    async def archive_project(self, project_id: str, at: int) -> None:
        """Marks the project archived, once: a later call does not move the time."""
        await _done(self._redis.hsetnx(f"identity:project:{project_id}", "archived_at", str(at)))

    async def project_ids(self) -> list[str]:
        """All projects, oldest first."""
        return await self._ids("identity:projects")

    async def add_account(self, record: AccountRecord) -> None:
        """Stores a new service account."""
        await self._add(
            f"identity:account:{record.id}",
            {
                "project": record.project,
                "name": record.name,
                "role": record.role,
                "created_at": record.created_at,
            },
            f"identity:accounts:{record.project}",
            record.id,
        )

    async def account(self, account_id: str) -> AccountRecord | None:
        """The service account, of whatever project: the caller compares."""
        fields = await self._read(f"identity:account:{account_id}")
        if not fields:
            return None
        role = fields[b"role"].decode()
        assert role in {"member", "owner", "none"}
        return AccountRecord(
            account_id,
            fields[b"project"].decode(),
            fields[b"name"],
            cast("Literal['member', 'owner', 'none']", role),
            int(fields[b"created_at"]),
        )

    async def account_ids(self, project_id: str) -> list[str]:
        """The project's service accounts, oldest first."""
        return await self._ids(f"identity:accounts:{project_id}")

    async def remove_account(self, record: AccountRecord) -> None:
        """Removes the account, not its keys."""
        await self._remove(f"identity:account:{record.id}", f"identity:accounts:{record.project}", record.id)

    async def add_key(self, record: KeyRecord) -> None:
        """Stores a new key."""
        fields: dict[str, Any] = {
            "mac": record.mac,
            "kind": record.kind,
            "tenant": record.tenant,
            "account": record.account,
            "scopes": ",".join(sorted(record.scopes)),
            "name": record.name,
            "redacted": record.redacted,
            "created_at": record.created_at,
        }
        if record.expires_at is not None:
            fields["expires_at"] = record.expires_at
        await self._add(f"identity:key:{record.id}", fields, f"identity:keys:{record.owner}", record.id)

    async def key(self, key_id: str) -> KeyRecord | None:
        """The key, of whatever project: the caller compares."""
        fields = await self._read(f"identity:key:{key_id}")
        if b"mac" not in fields:
            return None
        kind = fields[b"kind"].decode()
        assert kind in {"project", "admin"}
        return KeyRecord(
            id=key_id,
            mac=fields[b"mac"],
            kind=cast("Literal['project', 'admin']", kind),
            tenant=fields[b"tenant"].decode(),
            account=fields[b"account"].decode(),
            scopes=frozenset(filter(None, fields[b"scopes"].decode().split(","))),
            name=fields[b"name"],
            redacted=fields[b"redacted"].decode(),
            created_at=int(fields[b"created_at"]),
            expires_at=_optional_int(fields.get(b"expires_at")),
            last_used_at=_optional_int(fields.get(b"last_used_at")),
        )

    async def key_ids(self, owner: str) -> list[str]:
        """The keys of a project, or of the `ORGANIZATION`, oldest first."""
        return await self._ids(f"identity:keys:{owner}")

    async def remove_key(self, record: KeyRecord) -> None:
        """Removes the key: it authenticates nobody from now on."""
        await self._remove(f"identity:key:{record.id}", f"identity:keys:{record.owner}", record.id)

    async def touch_keys(self, used: dict[str, int]) -> None:
        """Writes the times of last use (key id → Unix seconds) of those keys that still exist."""
        present = [await self._redis.exists(f"identity:key:{key_id}") for key_id in used]
        pipeline = self._redis.pipeline(transaction=False)
        for (key_id, at), exists in zip(used.items(), present, strict=True):
            if exists:
                pipeline.hset(f"identity:key:{key_id}", "last_used_at", str(at))
        await pipeline.execute()

    async def hold_bootstrap(self) -> bool:
        """Takes the right to make the first keys for 30 s, so that two starting gateways do not both make them."""
        return bool(await self._redis.set("identity:bootstrap", "1", nx=True, ex=30))

    async def release_bootstrap(self) -> None:
        """Gives it back."""
        await self._redis.delete("identity:bootstrap")

    async def _add(self, name: str, fields: dict[str, Any], index: str, member: str) -> None:
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hset(name, mapping=cast("dict[Any, Any]", fields))
        # Milliseconds, so that the order within a second is that of creation.
        pipeline.zadd(index, {member: time.time_ns() // 1_000_000})
        await pipeline.execute()

    async def _remove(self, name: str, index: str, member: str) -> None:
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.delete(name)
        pipeline.zrem(index, member)
        await pipeline.execute()

    async def _read(self, name: str) -> dict[bytes, bytes]:
        return cast("dict[bytes, bytes]", await _done(self._redis.hgetall(name)))

    async def _ids(self, index: str) -> list[str]:
        return [member.decode() for member in cast("list[bytes]", await self._redis.zrange(index, 0, -1))]


async def _done(call: Awaitable[Any] | Any) -> Any:
    """redis-py types its asynchronous commands as value or awaitable; they are awaitables."""
    return await call


def _optional_int(value: bytes | None) -> int | None:
    return None if value is None else int(value)
