"""API keys as things that are issued, listed and revoked. What a key may be given, organization's rules say."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from cloister_common.errors import Conflict
from cloister_common.logs import get_logger

from cloister_gateway.bus.announcements import Announcements
from cloister_gateway.identity import tokens
from cloister_gateway.identity.records import KeyRecord
from cloister_gateway.identity.revocation import tell_key_revoked
from cloister_gateway.identity.store import IdentityStore

__all__ = ["ApiKeys", "IssuedKey"]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key at the only moment at which its token exists on the server."""

    record: KeyRecord
    token: str


class ApiKeys:
    """The keys of all projects and of the organization.

    Args:
        store: Where they are.
        pepper: What their HMACs are made under.
        announcements: Takes the word of revocations to every gateway.
    """

    def __init__(self, store: IdentityStore, pepper: bytes, announcements: Announcements) -> None:
        self._store = store
        self._pepper = pepper
        self._announcements = announcements

    async def issue(
        self,
        *,
        tenant: str,
        account: str,
        name: str,
        scopes: frozenset[str],
        lifetime_seconds: int | None,
        user: str = "",
        groups: frozenset[str] = frozenset(),
    ) -> IssuedKey:
        """A fresh key: of a service account of the project, or, where both are empty, of the organization.

        Where it has ``user`` or ``groups``, that is whose files its holder sees.
        """
        now = int(time.time())
        key = tokens.mint()
        record = KeyRecord(
            id=key.id,
            mac=b"",
            kind="project" if tenant else "admin",
            tenant=tenant,
            scopes=scopes,
            expires_at=None if lifetime_seconds is None else now + lifetime_seconds,
            account=account,
            name=name,
            redacted=key.redacted,
            created_at=now,
            user=user,
            groups=groups,
        )
        record = replace(record, mac=tokens.digest(self._pepper, key, *record.grant))
        await self._store.add_key(record)
        log.info("api_key_created", key=record.id, kind=record.kind, project=tenant or None)
        return IssuedKey(record, key.token)

    async def of(self, owner: str) -> list[KeyRecord]:
        """The keys of a project, or of the `ORGANIZATION`, oldest first."""
        return await self._store.keys(owner)

    async def gone(self, owner: str) -> dict[str, str]:
        """As `IdentityStore.gone`."""
        return await self._store.gone(owner, "keys")

    async def find(self, owner: str, key_id: str) -> KeyRecord | None:
        """The key, if it is one of this project's, or of the `ORGANIZATION`'s."""
        return await self._store.key(owner, key_id)

    async def revoke(self, record: KeyRecord) -> None:
        """Ends the key: within two seconds it opens nothing on any gateway, and what it had open is closed."""
        await self._store.remove_key(record)
        await tell_key_revoked(self._announcements, record.id)
        log.info("api_key_revoked", key=record.id)

    @asynccontextmanager
    async def making_the_first(self) -> AsyncIterator[None]:
        """Keeps two who start from both making the first keys. Raises `Conflict` for the second of them."""
        if not await self._store.hold_bootstrap():
            raise Conflict("Another bootstrap is running. Try again in half a minute.")
        try:
            yield
        finally:
            await self._store.release_bootstrap()
