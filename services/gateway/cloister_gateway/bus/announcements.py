"""Word between gateways on one channel: what kind of thing changed, and which. Keys revoked, projects archived, …"""

from collections.abc import Callable
from typing import Any

import orjson
from cloister_common.logs import get_logger

from cloister_gateway.bus.connection import Bus
from cloister_gateway.storage.layout import ANNOUNCEMENT_CHANNEL

__all__ = ["Announcements"]

log = get_logger(__name__)

_START_SECONDS = 20.0


class Announcements:
    """Publishes to, and hears from, every gateway (this one included)."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._callbacks: dict[str, list[Callable[[dict[str, Any]], None]]] = {}
        self._resyncs: list[Callable[[], None]] = []

    async def start(self) -> None:
        """Subscribes. Raises `Unavailable` if Redis does not confirm, for which a start has more patience."""
        await self._bus.subscribe(ANNOUNCEMENT_CHANNEL, self._receive, self._resync, confirm_seconds=_START_SECONDS)

    def subscribe(
        self, kind: str, callback: Callable[[dict[str, Any]], None], on_resync: Callable[[], None] | None = None
    ) -> None:
        """Calls ``callback`` with the payload of each message of ``kind``, for as long as the process lives.

        ``on_resync`` is called when messages may have been lost. Both must be quick and must not wait.
        """
        self._callbacks.setdefault(kind, []).append(callback)
        if on_resync is not None:
            self._resyncs.append(on_resync)

    async def publish(self, kind: str, payload: dict[str, Any]) -> None:
        """Tells all gateways. ``payload`` holds ids, times and counts only: Redis sees it in the clear."""
        await self._bus.publish(ANNOUNCEMENT_CHANNEL, orjson.dumps({"kind": kind, "payload": payload}))

    def _receive(self, raw: bytes) -> None:
        message = orjson.loads(raw)
        for callback in self._callbacks.get(message["kind"], []):
            callback(message["payload"])

    def _resync(self) -> None:
        for callback in self._resyncs:
            callback()
