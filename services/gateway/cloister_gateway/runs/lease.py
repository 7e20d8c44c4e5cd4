"""Who runs a response: a lease in Redis with a deadline, and a list of all runs by deadline.

A gateway that dies stops renewing; whoever finds the run past its deadline takes the lease. The lease only decides
who *should* write. That a deposed owner *cannot* write is decided by the event stream's explicit ids.
"""

import secrets
import time
from typing import Any

from redis.asyncio import Redis

from cloister_gateway.storage import record_key

__all__ = ["LEASE_SECONDS", "RENEW_SECONDS", "Leases"]

LEASE_SECONDS = 5.0
"""How long a dead owner's run waits for the next one."""
RENEW_SECONDS = 1.5
"""Three renewals fit in a lease, so that one slow answer from Redis does not depose a living owner."""

_ACTIVE = "runs:active"
_ENDED = "runs:ended"

_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Leases:
    """The leases of this gateway."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._owner = secrets.token_hex(8)
        self._renew_script = redis.register_script(_RENEW)
        self._release_script = redis.register_script(_RELEASE)

    async def take(self, kind: str, response_id: str) -> bool:
        """Takes the run's lease if it is free; says whether it did."""
        await self._redis.zadd(_ACTIVE, {response_id: time.time() + LEASE_SECONDS})
        taken = await self._redis.set(self._key(kind, response_id), self._owner, nx=True, px=int(LEASE_SECONDS * 1000))
        return bool(taken)

    async def renew(self, kind: str, response_id: str) -> bool:
        """Extends a lease of ours. False if it is not ours any more."""
        renewed = await self._renew_script(
            keys=[self._key(kind, response_id)], args=[self._owner, int(LEASE_SECONDS * 1000)]
        )
        if renewed:
            await self._redis.zadd(_ACTIVE, {response_id: time.time() + LEASE_SECONDS})
        return bool(renewed)

    async def release(self, kind: str, response_id: str) -> None:
        """Gives the lease up of a run of which nothing is left."""
        await self._redis.zrem(_ACTIVE, response_id)
        await self._release_script(keys=[self._key(kind, response_id)], args=[self._owner])

    async def hand_over(self, kind: str, response_id: str) -> None:
        """Gives the lease up so that another gateway goes on at once.

        The lease goes first: who found the run on the list and not its lease free would look again only after
        `LEASE_SECONDS`.
        """
        await self._release_script(keys=[self._key(kind, response_id)], args=[self._owner])
        await self._redis.zadd(_ACTIVE, {response_id: 0})

    async def abandoned(self, limit: int = 32) -> list[str]:
        """Runs whose owner let the deadline pass."""
        found: Any = await self._redis.zrangebyscore(_ACTIVE, 0, time.time(), start=0, num=limit)
        return [response_id.decode() for response_id in found]

    async def ended(self, kind: str, response_id: str, *, keep_seconds: float) -> None:
        """Notes when what is kept for late readers is to be dropped, then gives the lease up.

        In this order: a gateway that dies in between leaves the run on a list, so that what is kept does not stay.
        """
        await self._redis.zadd(_ENDED, {response_id: time.time() + keep_seconds})
        await self.release(kind, response_id)

    async def due(self, limit: int = 128) -> list[str]:
        """Ended runs whose keeping time is over."""
        found: Any = await self._redis.zrangebyscore(_ENDED, 0, time.time(), start=0, num=limit)
        return [response_id.decode() for response_id in found]

    async def dropped(self, response_id: str) -> None:
        """Takes an ended run off the list after its stream was dropped."""
        await self._redis.zrem(_ENDED, response_id)

    @staticmethod
    def _key(kind: str, response_id: str) -> str:
        return f"{record_key(kind, response_id)}:lease"
