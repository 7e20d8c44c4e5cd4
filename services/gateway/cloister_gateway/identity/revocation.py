"""How the end of a credential reaches what is being done for it, on every gateway.

The word of it (`tell_ended`) makes it hold at once: what is remembered of it is forgotten, and who watches it is told.
Since the word may be lost, what is watched is looked at again each `CACHE_SECONDS`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor

from cloister_gateway.bus.announcements import Announcements
from cloister_gateway.identity.cache import CACHE_SECONDS, VerifiedCache
from cloister_gateway.identity.principal import Principal
from cloister_gateway.storage.client import REDIS_DOWN

__all__ = ["Revocations", "tell_key_revoked", "tell_project_archived"]

log = get_logger(__name__)

_KIND = "identity"
"""Payload ``{"key_id": …}`` for a revoked key, ``{"tenant": …}`` for an archived project."""


async def tell_key_revoked(announcements: Announcements, key_id: str) -> None:
    """Tells every gateway that the key opens nothing any more. What says so is written already."""
    await announcements.publish(_KIND, {"key_id": key_id})


async def tell_project_archived(announcements: Announcements, tenant: str) -> None:
    """Tells every gateway that no key of the project opens anything any more. What says so is written already."""
    await announcements.publish(_KIND, {"tenant": tenant})


@dataclass(eq=False, slots=True)
class _Watch:
    principal: Principal
    ended: Callable[[], None]


class Revocations:
    """Hears of credentials that end, and ends what is done for them.

    Args:
        announcements: Brings the word.
        cache: Must not remember those that ended.
        ended: Says, by what is stored, which of those who are watched have no credential any more.
    """

    def __init__(
        self,
        announcements: Announcements,
        cache: VerifiedCache,
        ended: Callable[[Collection[Principal]], Awaitable[Collection[Principal]]],
    ) -> None:
        self._announcements = announcements
        self._cache = cache
        self._ended = ended
        self._watches: set[_Watch] = set()
        self.heard = 0
        """How often word came. Who was verified while it did must be verified again."""

    @property
    def watched(self) -> int:
        """How much is watched now."""
        return len(self._watches)

    def start(self, supervisor: Supervisor) -> None:
        """Begins to listen, and to look again at what is watched; ends with the supervisor."""
        self._announcements.subscribe(_KIND, self.hear, self._cache.clear)
        supervisor.loop("watched-keys", self._recheck_again_and_again)

    def watch(self, principal: Principal, ended: Callable[[], None]) -> Callable[[], None]:
        """Calls ``ended`` once if the credential behind ``principal`` ends early. Returns what ends the watch."""
        watch = _Watch(principal, ended)
        self._watches.add(watch)
        return lambda: self._watches.discard(watch)

    def hear(self, payload: dict[str, Any]) -> None:
        """Takes the word of one end."""

        def gone(principal: Principal) -> bool:
            return principal.credential.id == payload.get("key_id") or bool(
                principal.tenant and principal.tenant == payload.get("tenant")
            )

        self.heard += 1
        self._cache.forget(gone)
        for watch in [watch for watch in self._watches if gone(watch.principal)]:
            self._end(watch)

    async def recheck(self) -> None:
        """Ends what is done for credentials that have ended, by what is stored and not by word."""
        watches = list(self._watches)
        if watches:
            ended = set(await self._ended({watch.principal for watch in watches}))
            for watch in watches:
                if watch.principal in ended and watch in self._watches:
                    self._end(watch)

    async def _recheck_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(CACHE_SECONDS)
            try:
                await self.recheck()
            except REDIS_DOWN as error:
                log.warning("watched_keys_not_checked", error=type(error).__name__)

    def _end(self, watch: _Watch) -> None:
        self._watches.discard(watch)
        try:
            watch.ended()
        except Exception:
            log.exception("revocation_callback_failed")
