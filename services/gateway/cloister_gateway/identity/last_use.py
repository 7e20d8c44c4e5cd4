"""When each API key was used last: noted on the path of a request, written each minute beside it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor

from cloister_gateway.identity.principal import Principal
from cloister_gateway.storage.client import REDIS_AWAY

__all__ = ["LastUse"]

log = get_logger(__name__)

_WRITE_SECONDS = 60.0


class LastUse:
    """Notes uses and writes them.

    Args:
        write: Writes times (credential's id → Unix seconds) of those credentials that still exist.
    """

    def __init__(self, write: Callable[[dict[str, int]], Awaitable[None]]) -> None:
        self._write = write
        self._used: dict[str, int] = {}

    def start(self, supervisor: Supervisor) -> None:
        """Begins to write each minute; ends with the supervisor. What is left then, `flush` writes."""
        supervisor.loop("key-usage", self._write_again_and_again)

    def note(self, principal: Principal) -> None:
        """``principal`` calls now."""
        self._used[principal.credential.id] = int(time.time())

    async def flush(self) -> None:
        """Writes the times noted so far. What cannot be written now is written with the next."""
        used, self._used = self._used, {}
        try:
            await self._write(used)
        except REDIS_AWAY as error:
            self._used = {**used, **self._used}
            log.warning("key_usage_not_written", error=type(error).__name__)

    async def _write_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_SECONDS)
            await self.flush()
