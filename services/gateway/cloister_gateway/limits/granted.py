"""The limits that administrators set over HTTP: sealed in Redis, all of them in the memory of every gateway.

A change is written first, then told to all gateways; one that does not hear of it finds it with its next look.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import orjson
from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, Keyring, VaultError, encode_context, open_record, seal
from redis.asyncio import Redis
from redis.exceptions import WatchError

from cloister_gateway.bus.announcements import Announcements
from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.limits.rules import Granted, HistoryPolicy, SpendAlert
from cloister_gateway.storage import DamagedError
from cloister_gateway.storage.client import REDIS_AWAY
from cloister_gateway.storage.layout import LIMITS, LIMITS_SET

__all__ = ["GrantedLimits"]

log = get_logger(__name__)

_CHANGED = "limits.changed"
_LOOK_SECONDS = 2.5
"""Word of a change may be lost: it is in force within 5 s all the same, a look that failed once included."""


class _Kept(NamedTuple):
    sealed: bytes
    granted: Granted | None


class GrantedLimits:
    """What was set, by project, and under `ORGANIZATION` for all of them together.

    Args:
        redis: Where it is kept.
        keyring: Has the organization's key: limits are not a project's to say.
        announcements: Tell of changes.
        changed: Called when something is another than it was.
    """

    def __init__(
        self, redis: Redis, keyring: Keyring, announcements: Announcements, changed: Callable[[], None]
    ) -> None:
        self._redis = redis
        self._keyring = keyring
        self._announcements = announcements
        self._changed = changed
        self._kept: dict[str, _Kept] = {}
        self._look = asyncio.Event()

    def __bool__(self) -> bool:
        """Whether anything is set."""
        return bool(self._kept)

    def of(self, owner: str) -> Granted | None:
        """What is set for ``owner``.

        Raises:
            DamagedError: What stands there is not what was written: nobody knows what is allowed.
        """
        kept = self._kept.get(owner)
        if kept is None:
            return None
        if kept.granted is None:
            raise DamagedError("the limits of this project")
        return kept.granted

    def listen(self) -> None:
        """Begins to hear of changes."""
        self._announcements.subscribe(_CHANGED, lambda _: self._look.set(), self._look.set)

    async def follow(self) -> None:
        """Looks again and again. Runs until it is cancelled."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._look.wait()
            except TimeoutError:
                pass  # Nobody called, and it is looked at all the same.
            self._look.clear()
            try:
                await self.load()
            except REDIS_AWAY as error:
                log.warning("limits_not_read", error=type(error).__name__)

    async def load(self) -> None:
        """Takes over what is set now."""
        # redis-py types its asynchronous hash commands as value or awaitable.
        found: dict[bytes, bytes] = await cast("Any", self._redis.hgetall(LIMITS_SET))
        before = {owner: kept.sealed for owner, kept in self._kept.items()}
        now = {owner.decode(errors="replace"): sealed for owner, sealed in found.items()}
        if now == before:
            return
        kept: dict[str, _Kept] = {}
        for owner, sealed in now.items():
            if before.get(owner) == sealed:
                kept[owner] = self._kept[owner]
                continue
            try:
                kept[owner] = _Kept(sealed, await self._open(owner, sealed))
            except VaultError as error:
                log.error("limits_damaged", owner=owner, exc_info=error)
                kept[owner] = _Kept(sealed, None)
        self._kept = kept
        self._changed()

    async def change(self, owner: str, change: Callable[[Granted], Granted]) -> Granted:
        """Sets what ``change`` makes of what stands, and tells all gateways. Returns it."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            while True:
                await pipeline.watch(LIMITS_SET)
                sealed: Any = await cast("Any", pipeline.hget(LIMITS_SET, owner))
                granted = change(Granted() if sealed is None else await self._open(owner, sealed))
                value = {
                    "models": granted.models,
                    "spend": granted.spend,
                    "alerts": [list(alert) for alert in granted.alerts],
                    "history": None if granted.history is None else list(granted.history),
                }
                written = seal((await self._key()).subkey("granted"), orjson.dumps(value), _context(owner))
                pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                if granted == Granted():
                    pipeline.hdel(LIMITS_SET, owner)
                else:
                    pipeline.hset(LIMITS_SET, owner, cast("Any", written))
                try:
                    await pipeline.execute()
                except WatchError:
                    continue
                break
        log.warning("limits_changed", owner=owner)
        await self.load()
        await self._announcements.publish(_CHANGED, {"owner": owner})
        return granted

    async def _open(self, owner: str, sealed: bytes) -> Granted:
        value = orjson.loads(open_record((await self._key()).subkey("granted"), sealed, _context(owner)))
        # (The version before knew of no alerts, and had no word for history.)
        alerts = (SpendAlert(name, most, tuple(whom), prefix) for name, most, whom, prefix in value.get("alerts", ()))
        history = value.get("history")
        policy = None if history is None else HistoryPolicy(*history)
        return Granted(value["models"], value["spend"], tuple(alerts), policy)

    async def _key(self) -> DataKey:
        return await self._keyring.obtain(ORGANIZATION, LIMITS, ORGANIZATION)


def _context(owner: str) -> bytes:
    return encode_context("limits-granted", owner)
