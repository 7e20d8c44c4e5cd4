"""From an ``Authorization`` header to a `Principal`, within a microsecond when the key was seen a moment ago.

A verified key is remembered for `CACHE_SECONDS`, less than the two seconds within which a revocation must hold
everywhere, so that it holds even if the word of it is lost. The word itself (`Control`, kind ``identity``) makes it
hold at once, for what is being done for the key too: all of it stands in a `Validity`. Since the word may be lost, the
keys that are watched are looked at again each `CACHE_SECONDS`.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from cloister_common.errors import Unauthenticated
from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from cloister_common.vault import VaultError

from cloister_gateway.bus.announcements import Control
from cloister_gateway.identity import tokens
from cloister_gateway.identity.principal import Principal
from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.identity.store import IdentityStore
from cloister_gateway.identity.validity import Validity
from cloister_gateway.storage.client import REDIS_AWAY, REDIS_DOWN

__all__ = ["CACHE_SECONDS", "CONTROL_KIND", "Authenticator"]

log = get_logger(__name__)

CONTROL_KIND = "identity"
"""Payload ``{"key_id": …}`` for a revoked key, ``{"tenant": …}`` for an archived project."""

CACHE_SECONDS = 1.5
_CACHE_KEYS = 10_000
_USAGE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Verified:
    principal: Principal
    until: float


@dataclass(eq=False, slots=True)
class _Watch:
    principal: Principal
    ended: Callable[[], None]


class Authenticator:
    """Verifies API keys.

    Args:
        store: The keys.
        peppers: The first makes new keys' HMACs, all verify.
        control: Brings the word of revocations.
        supervisor: Writes times of last use, and looks at watched keys again.
    """

    def __init__(self, store: IdentityStore, peppers: list[bytes], control: Control, supervisor: Supervisor) -> None:
        self._store = store
        self._peppers = peppers
        self._control = control
        self._supervisor = supervisor
        self._verified: dict[bytes, _Verified] = {}
        self._watches: set[_Watch] = set()
        self._used: dict[str, int] = {}
        self._heard = 0

    def start(self) -> None:
        """Begins to listen for revocations and to note times of use."""
        self._control.subscribe(CONTROL_KIND, self._on_control, self._on_resync)
        self._supervisor.loop("watched-keys", self._recheck)
        self._supervisor.loop("key-usage", self._write_usage)

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The caller that ``headers`` (of a request or of a WebSocket handshake) prove.

        Raises:
            Unauthenticated: No key, or one that is malformed, unknown, expired, revoked, or of an archived project.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated(
                "No API key. Send it in the Authorization header: 'Authorization: Bearer KEY'.", code="missing_api_key"
            )
        fingerprint = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = self._verified.get(fingerprint)
        if found is None or found.until < time.monotonic():
            found = _Verified(await self._verify_now(token), time.monotonic() + CACHE_SECONDS)
            self._remember(fingerprint, found)
        principal = found.principal
        now = int(time.time())
        if principal.expires_at is not None and principal.expires_at <= now:
            raise Unauthenticated("The API key has expired. Ask for a new one.", code="expired_api_key")
        self._used[principal.key_id] = now
        return principal

    def watch(self, principal: Principal, ended: Callable[[], None]) -> Callable[[], None]:
        """Calls ``ended`` once if the credential behind ``principal`` is revoked. Returns what ends the watch."""
        watch = _Watch(principal, ended)
        self._watches.add(watch)
        return lambda: self._watches.discard(watch)

    def while_valid(self, principal: Principal) -> Validity:
        """What interrupts all that is done for ``principal`` when its credential ends: ``async with`` around it.

        Nothing may be awaited between `authenticate` and the beginning of the block.
        """
        return Validity(principal.expires_at, partial(self.watch, principal))

    async def _verify_now(self, token: str) -> Principal:
        """Verifies, and again if word of a revocation came meanwhile: whoever came in after it would not be closed."""
        while True:
            heard = self._heard
            principal = await self._verify(token)
            if heard == self._heard:
                return principal

    async def _verify(self, token: str) -> Principal:
        refusal = Unauthenticated("The API key is not valid: it is mistyped, revoked or of another installation.")
        key = tokens.parse(token)
        if key is None:
            raise refusal
        try:
            record = await self._store.credential(key.id)
            if record is None or not tokens.matches(self._peppers, key, record.mac, *record.grant):
                raise refusal
            if record.kind == "project" and not await self._store.project_is_active(record.tenant):
                raise Unauthenticated("The project of this API key is archived.", code="project_archived")
        except VaultError as error:
            log.error("rights_damaged", key=key.id, exc_info=error)
            raise refusal from error
        return Principal(record.tenant, record.id, record.scopes, record.kind, record.expires_at)

    def _remember(self, fingerprint: bytes, verified: _Verified) -> None:
        if len(self._verified) >= _CACHE_KEYS:
            now = time.monotonic()
            self._verified = {name: entry for name, entry in self._verified.items() if entry.until >= now}
            if len(self._verified) >= _CACHE_KEYS:
                self._verified.clear()
        self._verified[fingerprint] = verified

    def _on_control(self, payload: dict[str, Any]) -> None:
        def gone(principal: Principal) -> bool:
            return principal.key_id == payload.get("key_id") or bool(
                principal.tenant and principal.tenant == payload.get("tenant")
            )

        self._heard += 1
        self._verified = {name: entry for name, entry in self._verified.items() if not gone(entry.principal)}
        for watch in [watch for watch in self._watches if gone(watch.principal)]:
            self._end(watch)

    def _on_resync(self) -> None:
        self._verified.clear()

    async def _recheck(self) -> None:
        """Looks at every watched key again and again: the word of its end may have been lost."""
        while True:
            await asyncio.sleep(CACHE_SECONDS)
            try:
                await self.recheck()
            except REDIS_DOWN as error:
                log.warning("watched_keys_not_checked", error=type(error).__name__)

    async def recheck(self) -> None:
        """Ends what is done for keys that have ended, by the store and not by word."""
        watches = list(self._watches)
        keys: dict[str, set[str]] = {}
        for watch in watches:
            keys.setdefault(watch.principal.tenant or ORGANIZATION, set()).add(watch.principal.key_id)
        if keys:
            live = await self._store.rights.live(keys)
            for watch in watches:
                if watch.principal.key_id not in live and watch in self._watches:
                    self._end(watch)

    def _end(self, watch: _Watch) -> None:
        self._watches.discard(watch)
        try:
            watch.ended()
        except Exception:
            log.exception("revocation_callback_failed")

    async def _write_usage(self) -> None:
        """Writes the times of last use each minute: never on the path of a request."""
        while True:
            await asyncio.sleep(_USAGE_SECONDS)
            await self.flush_usage()

    async def flush_usage(self) -> None:
        """Writes the times noted so far. What cannot be written now is written with the next."""
        used, self._used = self._used, {}
        try:
            await self._store.touch_keys(used)
        except REDIS_AWAY as error:
            self._used = {**used, **self._used}
            log.warning("key_usage_not_written", error=type(error).__name__)
