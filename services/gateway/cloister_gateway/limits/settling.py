"""What is yet to be settled of generations that have ended: noted at once, told to Redis soon, never forgotten."""

import asyncio
from dataclasses import dataclass

from cloister_common.logs import get_logger

from cloister_gateway.limits.reservations import Reservations
from cloister_gateway.storage.client import REDIS_AWAY

__all__ = ["Settlement", "Settling"]

log = get_logger(__name__)
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is yet to be told to Redis of a generation."""

    project: str
    read: int
    written: int
    requests: int = 1


class Settling:
    """Tells Redis what generations have used.

    Args:
        reservations: What is reserved and used.
    """

    def __init__(self, reservations: Reservations) -> None:
        self._reservations = reservations
        self._pending: dict[str, Settlement] = {}
        self._settle_now = asyncio.Event()

    def note(self, generation: str, settlement: Settlement) -> None:
        """Settles a generation, soon."""
        self._pending[generation] = settlement
        self._settle_now.set()

    async def settle_all(self) -> None:
        """Settles what is noted, as it comes; waits where Redis is away."""
        while True:
            await self._settle_now.wait()
            self._settle_now.clear()
            try:
                await self.settle_pending()
            except REDIS_AWAY as error:
                log.warning("limits_not_settled", generations=len(self._pending), error=type(error).__name__)
                self._settle_now.set()
                await asyncio.sleep(_RETRY_SECONDS)

    async def settle_pending(self) -> None:
        """Settles what there is to settle. Doing it again, after an error, changes nothing. Raises `REDIS_AWAY`."""
        pending = dict(self._pending)
        told = await asyncio.gather(
            *(self._settle_one(name, settlement) for name, settlement in pending.items()), return_exceptions=True
        )
        lost = next((error for error in told if isinstance(error, BaseException)), None)
        if lost is not None:
            raise lost

    async def _settle_one(self, name: str, settlement: Settlement) -> None:
        project, read, written = settlement.project, settlement.read, settlement.written
        try:
            kept = await self._reservations.settle(project, name, read, written, requests=settlement.requests)
        except REDIS_AWAY:
            raise
        except Exception:
            # One that cannot be settled must not keep the others from it. It counts as what it reserved.
            log.exception("limit_not_settled", generation=name)
            kept = True
        if self._pending.get(name) is settlement:
            del self._pending[name]
        if not kept:
            log.error("limit_reserved_too_little", generation=name, read=read, written=written)
