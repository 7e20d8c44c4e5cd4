"""Projects, service accounts and API keys in Redis. The only file of this domain that speaks to it.

    identity:project:{id}        hash  name (sealed), created_at, archived_at
    identity:projects            zset  ids by time
    identity:account:{id}        hash  project, name (sealed), created_at
    identity:accounts:{project}  zset
    identity:key:{id}            hash  mac, kind, tenant, account, scopes, name (sealed), redacted, times
    identity:keys:{owner}        zset  ids by time; the owner is a project's id or ``organization``

Names are sealed; ids, times and scopes are clear.
"""

import time
from dataclasses import dataclass
from typing import Any, Literal, cast

from redis.asyncio import Redis

from cloister_gateway.identity.names import Names

__all__ = ["ORGANIZATION", "AccountRecord", "Credential", "IdentityStore", "KeyRecord", "ProjectRecord"]

ORGANIZATION = "organization"
"""Stands where a project's id would, for the keys that administer all of them."""

Kind = Literal["project", "admin"]


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """A project, that is, a tenant. Times are Unix seconds."""

    id: str
    name: str
    created_at: int
    archived_at: int | None = None


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """A service account of a project."""

    id: str
    project: str
    name: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Credential:
    """What authentication needs of a key."""

    id: str
    mac: bytes
    kind: Kind
    tenant: str
    scopes: frozenset[str]
    expires_at: int | None = None

    @property
    def grant(self) -> tuple[str, ...]:
        """Whose the key is, what it may do and until when: what its HMAC is made over besides the key itself."""
        expiry = "" if self.expires_at is None else str(self.expires_at)
        return self.kind, self.tenant, ",".join(sorted(self.scopes)), expiry


@dataclass(frozen=True, slots=True)
class KeyRecord(Credential):
    """An API key as it is stored: everything but the secret."""

    account: str = ""
    name: str = ""
    redacted: str = ""
    created_at: int = 0
    last_used_at: int | None = None

    @property
    def owner(self) -> str:
        """The project's id, or `ORGANIZATION`."""
        return self.tenant or ORGANIZATION


class IdentityStore:
    """Reads and writes the records above."""

    def __init__(self, redis: Redis, names: Names) -> None:
        self._redis = redis
        self._names = names

    async def add_project(self, record: ProjectRecord) -> None:
        """Stores a new project."""
        name = await self._names.seal(record.id, record.id, record.name)
        fields = {"name": name, "created_at": record.created_at}
        await self._add(f"identity:project:{record.id}", fields, "identity:projects", record.id)

    async def project(self, project_id: str) -> ProjectRecord | None:
        """The project, archived or not."""
        fields = await self._read(f"identity:project:{project_id}")
        if not fields:
            return None
        name = await self._names.open(project_id, project_id, fields[b"name"])
        return ProjectRecord(project_id, name, int(fields[b"created_at"]), _optional_int(fields.get(b"archived_at")))

    async def project_is_active(self, project_id: str) -> bool:
        """Whether there is such a project and it is not archived."""
        values: Any = await self._hash("hmget", f"identity:project:{project_id}", ["created_at", "archived_at"])
        return values[0] is not None and values[1] is None

    async def rename_project(self, record: ProjectRecord) -> None:
        """Replaces the name."""
        name = await self._names.seal(record.id, record.id, record.name)
        await self._hash("hset", f"identity:project:{record.id}", "name", name)

    async def archive_project(self, project_id: str) -> None:
        """Marks the project archived, once: a later call does not move the time."""
        await self._hash("hsetnx", f"identity:project:{project_id}", "archived_at", str(int(time.time())))

    async def project_ids(self) -> list[str]:
        """All projects, oldest first."""
        return await self._ids("identity:projects")

    async def add_account(self, record: AccountRecord) -> None:
        """Stores a new service account."""
        name = await self._names.seal(record.project, record.id, record.name)
        fields = {"project": record.project, "name": name, "created_at": record.created_at}
        await self._add(f"identity:account:{record.id}", fields, f"identity:accounts:{record.project}", record.id)

    async def account(self, account_id: str) -> AccountRecord | None:
        """The service account, of whatever project: the caller compares."""
        fields = await self._read(f"identity:account:{account_id}")
        if not fields:
            return None
        project = fields[b"project"].decode()
        name = await self._names.open(project, account_id, fields[b"name"])
        return AccountRecord(account_id, project, name, int(fields[b"created_at"]))

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
            "name": await self._names.seal(record.owner, record.id, record.name),
            "redacted": record.redacted,
            "created_at": record.created_at,
        }
        if record.expires_at is not None:
            fields["expires_at"] = record.expires_at
        await self._add(f"identity:key:{record.id}", fields, f"identity:keys:{record.owner}", record.id)

    async def credential(self, key_id: str) -> Credential | None:
        """What authentication needs of a key; its name stays sealed."""
        names = ["mac", "kind", "tenant", "scopes", "expires_at"]
        values: Any = await self._hash("hmget", f"identity:key:{key_id}", names)
        mac, kind, tenant, scopes, expires_at = values
        if mac is None:
            return None
        return Credential(key_id, mac, _kind(kind), tenant.decode(), _scopes(scopes), _optional_int(expires_at))

    async def key(self, key_id: str) -> KeyRecord | None:
        """The key, of whatever project: the caller compares."""
        fields = await self._read(f"identity:key:{key_id}")
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
            name=await self._names.open(tenant or ORGANIZATION, key_id, fields[b"name"]),
            redacted=fields[b"redacted"].decode(),
            created_at=int(fields[b"created_at"]),
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
        for key_id, at in used.items():
            if await self._redis.exists(f"identity:key:{key_id}"):
                await self._hash("hset", f"identity:key:{key_id}", "last_used_at", str(at))

    async def hold_bootstrap(self) -> bool:
        """Takes the right to make the first keys for 30 s, so that two who start do not both make them."""
        return bool(await self._redis.set("identity:bootstrap", "1", nx=True, ex=30))

    async def release_bootstrap(self) -> None:
        """Gives it back."""
        await self._redis.delete("identity:bootstrap")

    async def _add(self, name: str, fields: dict[str, Any], index: str, member: str) -> None:
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hset(name, mapping=cast("dict[Any, Any]", fields))
        # Microseconds, so that the order within a second is that of creation.
        pipeline.zadd(index, {member: time.time_ns() // 1_000})
        await pipeline.execute()

    async def _remove(self, name: str, index: str, member: str) -> None:
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.delete(name)
        pipeline.zrem(index, member)
        await pipeline.execute()

    async def _read(self, name: str) -> dict[bytes, bytes]:
        return cast("dict[bytes, bytes]", await self._hash("hgetall", name))

    async def _hash(self, command: str, *arguments: Any) -> Any:
        """redis-py types its asynchronous hash commands as value or awaitable; they are awaitables."""
        return await getattr(self._redis, command)(*arguments)

    async def _ids(self, index: str) -> list[str]:
        return [member.decode() for member in cast("list[bytes]", await self._redis.zrange(index, 0, -1))]


def _kind(value: bytes) -> Kind:
    return "admin" if value == b"admin" else "project"


def _scopes(value: bytes) -> frozenset[str]:
    return frozenset(filter(None, value.decode().split(",")))


def _optional_int(value: bytes | None) -> int | None:
    return None if value is None else int(value)
