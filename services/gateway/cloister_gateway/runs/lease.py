"""Who runs a response: a lease in Redis with a deadline, and a list of all runs by deadline.

A gateway that dies stops renewing; whoever finds the run past its deadline takes the lease. The lease only decides
who *should* write. That a deposed holder *cannot* write is decided by the event stream's explicit ids.

Every time here is Redis's own, taken inside the script that uses it: the clocks of two gateways may be an hour apart.
"""

import math
import secrets
from typing import Any

from redis.asyncio import Redis

from cloister_gateway.storage.layout import RUNS_ACTIVE, RUNS_ENDED, lease_key

__all__ = ["LEASE_SECONDS", "RENEW_SECONDS", "Leases"]

LEASE_SECONDS = 5.0
"""How long a dead holder's run waits for the next one."""
RENEW_SECONDS = 1.5
"""Three renewals fit in a lease, so that one slow answer from Redis does not depose a living holder."""

_NOW = "local time = redis.call('TIME') local now = time[1] + time[2] / 1e6 "
# KEYS: list. ARGV: run, seconds from now.
_NOTE = _NOW + "return redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])"
# KEYS: list. ARGV: how many at most, the most seconds from now that anyone notes. What is noted beyond was noted by
# another clock, that of a Redis that failed over for example: it is over too, or nobody would find it until then.
_OVER = (
    _NOW
    + """
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, run in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now + ARGV[2], '+inf', 'LIMIT', 0, ARGV[1])) do
  table.insert(over, run)
end
return over
"""
)
# KEYS: lease. ARGV: holder, milliseconds. What stands there without an end is no lease of ours, and would never go.
_TAKE = """
if redis.call('PTTL', KEYS[1]) == -1 then redis.call('DEL', KEYS[1]) end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
"""
# KEYS: lease. ARGV: holder, milliseconds.
_RENEW = "if redis.pcall('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
# KEYS: lease. ARGV: holder.
_RELEASE = "if redis.pcall('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Leases:
    """The leases of this gateway."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._holder = secrets.token_hex(8)
        self._note_script = redis.register_script(_NOTE)
        self._over_script = redis.register_script(_OVER)
        self._take_script = redis.register_script(_TAKE)
        self._renew_script = redis.register_script(_RENEW)
        self._release_script = redis.register_script(_RELEASE)

    async def take(self, response_id: str) -> bool:
        """Takes the run's lease if it is free; says whether it did."""
        await self._note_script(keys=[RUNS_ACTIVE], args=[response_id, LEASE_SECONDS])
        taken = await self._take_script(keys=[lease_key(response_id)], args=[self._holder, int(LEASE_SECONDS * 1000)])
        return bool(taken)

    async def renew(self, response_id: str) -> bool:
        """Extends a lease of ours. False if it is not ours any more."""
        renewed = await self._renew_script(
            keys=[lease_key(response_id)], args=[self._holder, int(LEASE_SECONDS * 1000)]
        )
        if renewed:
            await self._note_script(keys=[RUNS_ACTIVE], args=[response_id, LEASE_SECONDS])
        return bool(renewed)

    async def release(self, response_id: str) -> None:
        """Gives the lease up of a run of which nothing is left."""
        await self._redis.zrem(RUNS_ACTIVE, response_id)
        await self._release_script(keys=[lease_key(response_id)], args=[self._holder])

    async def hand_over(self, response_id: str) -> None:
        """Gives the lease up so that another gateway goes on at once.

        The lease goes first: who found the run on the list and not its lease free would look again only after
        `LEASE_SECONDS`.
        """
        await self._release_script(keys=[lease_key(response_id)], args=[self._holder])
        await self._redis.zadd(RUNS_ACTIVE, {response_id: 0})

    async def abandoned(self, limit: int = 32) -> list[str]:
        """Runs whose holder let the deadline pass."""
        return await self._over(RUNS_ACTIVE, limit, within_seconds=2 * LEASE_SECONDS)

    async def ended(self, response_id: str, *, keep_seconds: float) -> None:
        """Notes when what is kept for late readers is to be dropped, then gives the lease up.

        In this order: a gateway that dies in between leaves the run on a list, so that what is kept does not stay.
        """
        await self._note_script(keys=[RUNS_ENDED], args=[response_id, keep_seconds])
        await self.release(response_id)

    async def due(self, limit: int = 128) -> list[str]:
        """Ended runs whose keeping time is over."""
        return await self._over(RUNS_ENDED, limit, within_seconds=math.inf)

    async def dropped(self, response_id: str) -> None:
        """Takes an ended run off the list after its stream was dropped."""
        await self._redis.zrem(RUNS_ENDED, response_id)

    async def _over(self, listed: str, limit: int, *, within_seconds: float) -> list[str]:
        """The runs of a list whose time is over. What is no id at all is taken off: it must not hold up the others."""
        found: Any = await self._over_script(keys=[listed], args=[limit, within_seconds])
        runs = []
        for raw in found:
            try:
                runs.append(raw.decode())
            except UnicodeDecodeError:
                await self._redis.zrem(listed, raw)
        return runs
