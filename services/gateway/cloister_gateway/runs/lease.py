"""Who runs a response: a lease in Redis with a deadline, and a list of all runs by deadline.

A gateway that dies stops renewing; whoever finds the run past its deadline takes the lease. The lease only decides
who *should* write. That a deposed holder *cannot* write is decided by the event stream's explicit ids. So a gateway
that was too busy to renew in time, and finds that nobody has taken its lease, just takes it again.

Every time here is Redis's own, taken inside the script that uses it: the clocks of two gateways may be an hour apart.
"""

import asyncio
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage.client import is_cluster
from cloister_gateway.storage.layout import RESPONSE, RUNS_ACTIVE, RUNS_ENDED, lease_key, record_key
from cloister_gateway.storage.slots import in_one_slot

__all__ = ["LEASE_SECONDS", "RENEW_SECONDS", "Leased", "Leases", "Standing", "renewing"]

LEASE_SECONDS = 5.0
"""How long a dead holder's run waits for the next one."""
RENEW_SECONDS = 1.5
"""Three renewals fit in a lease, so that one slow answer from Redis does not depose a living holder."""
_RENEWING_CONNECTIONS = 4
"""Of the client that renews leases: one is enough, but for when it is cut."""

_NOW = "local time = redis.call('TIME') local now = time[1] + time[2] / 1e6 "
# KEYS: list. ARGV: seconds from now, runs.
_NOTE = _NOW + "for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i]) end return 0"
# KEYS: list, the list to leave. ARGV: as before. A Redis without room refuses the first, and would do the second alone.
_MOVE = (
    _NOW
    + """
for i = 2, #ARGV do
  redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i])
  redis.call('ZREM', KEYS[2], ARGV[i])
end
return 0
"""
)
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
# One that is the taker's already is that of a run which Redis interrupted.
_TAKE = """
if redis.call('PTTL', KEYS[1]) == -1 then redis.call('DEL', KEYS[1]) end
if redis.pcall('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
"""
# KEYS: lease. ARGV: holder, milliseconds.
_RENEW = "if redis.pcall('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
# KEYS: lease and record of each run. ARGV: holder, milliseconds, then for each run whether its lease may have run out.
# Says of each whether it is ours (1), is to be cancelled (2), is gone (4). What is no record of ours tells nothing.
_RENEW_ALL = """
local told = {}
for i = 1, #KEYS, 2 do
  local said = redis.pcall('HMGET', KEYS[i + 1], 'tenant', 'cancel', 'done')
  local holder = redis.pcall('GET', KEYS[i])
  local bits = 0
  if holder == ARGV[1] then
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
    bits = 1
  elseif not holder and not said[3] and ARGV[(i + 5) / 2] == '1' then
    redis.call('SET', KEYS[i], ARGV[1], 'PX', ARGV[2])
    bits = 1
  end
  if said[2] then bits = bits + 2 end
  if not said.err and not said[1] then bits = bits + 4 end
  told[(i + 1) / 2] = bits
end
return told
"""
# KEYS: lease. ARGV: holder.
_RELEASE = "if redis.pcall('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


_RUNS_A_SCRIPT = 64
"""Nobody else is served while a script runs: this many renewals take half a millisecond."""


class Standing(NamedTuple):
    """How a run stands.

    Attributes:
        ours: Whether its lease is this gateway's, and was extended.
        cancelled: Whether somebody asked to cancel it.
        gone: Whether its response was destroyed.
    """

    ours: bool
    cancelled: bool
    gone: bool


class Leased(NamedTuple):
    """What is worked on by one gateway at a time.

    Attributes:
        kind: Of its records.
        active: The list of those that go on, by the time at which their lease is over.
        ended: The list of those that have ended, by the time at which what is kept of them goes.
    """

    kind: str
    active: str
    ended: str


RUNS = Leased(RESPONSE, RUNS_ACTIVE, RUNS_ENDED)
"""What this is for: runs. Batches are leased in the same way, by the id of the batch."""


class Leases:
    """The leases of this gateway.

    Args:
        redis: A client. That of the renewals has connections of its own (`cloister_gateway.runs.keeper`).
        holder: The name under which they are held, where several share it.
        of: What they are leases of.
    """

    def __init__(self, redis: Redis, *, holder: str | None = None, of: Leased | None = None) -> None:
        self._redis = redis
        self._of = of or RUNS
        self._clustered = is_cluster(redis)
        self.holder = holder or secrets.token_hex(8)
        self._note_script = redis.register_script(_NOTE)
        self._move_script = redis.register_script(_MOVE)
        self._over_script = redis.register_script(_OVER)
        self._take_script = redis.register_script(_TAKE)
        self._renew_script = redis.register_script(_RENEW)
        self._renew_all_script = redis.register_script(_RENEW_ALL)
        self._release_script = redis.register_script(_RELEASE)

    async def take(self, response_id: str) -> bool:
        """Takes the run's lease if it is free, or is ours and its run was interrupted; says whether it did."""
        await self._note_script(keys=[self._of.active], args=[LEASE_SECONDS, response_id])
        taken = await self._take_script(keys=[self._lease(response_id)], args=[self.holder, int(LEASE_SECONDS * 1000)])
        return bool(taken)

    async def renew(self, response_id: str) -> bool:
        """Extends a lease of ours. False if it is not ours any more."""
        renewed = await self._renew_script(
            keys=[self._lease(response_id)], args=[self.holder, int(LEASE_SECONDS * 1000)]
        )
        if renewed:
            await self._note_script(keys=[self._of.active], args=[LEASE_SECONDS, response_id])
        return bool(renewed)

    async def renew_all(self, late: Mapping[str, bool]) -> dict[str, Standing]:
        """Extends the leases of many runs in a few round trips.

        Args:
            late: The runs, and of each whether its last renewal is so long ago that its lease may have run out. Then
                it is taken again where nobody has it; one that is gone before its time was taken away.

        Returns:
            How those stand of which Redis has told. In a cluster others may lie at a node that does not answer.

        Raises:
            RedisError, OSError: It has told of none.
        """

        async def renew(some: list[str]) -> dict[str, Standing]:
            keys = [key for run in some for key in (self._lease(run), record_key(self._of.kind, run))]
            said: Any = await self._renew_all_script(
                keys=keys, args=[self.holder, int(LEASE_SECONDS * 1000), *(int(late[run]) for run in some)]
            )
            return {
                run: Standing(bool(bits & 1), bool(bits & 2), bool(bits & 4))
                for run, bits in zip(some, said, strict=True)
            }

        standing: dict[str, Standing] = {}
        lost: BaseException | None = None
        portions = in_one_slot(late, self._lease, most=_RUNS_A_SCRIPT, clustered=self._clustered)
        # (In a cluster nearly each run is a portion, and a node whose master has died must not hold up the others.)
        step = len(portions) if self._clustered else 1
        for begin in range(0, len(portions), step or 1):
            here = portions[begin : begin + step]
            for told in await asyncio.gather(*(renew(some) for some in here), return_exceptions=True):
                if isinstance(told, BaseException):
                    lost = told
                else:
                    standing |= told
        if lost is not None and not standing:
            raise lost
        ours = [run for run, how in standing.items() if how.ours]
        if ours:
            await self._note_script(keys=[self._of.active], args=[LEASE_SECONDS, *ours])
        return standing

    async def list_alone(self, object_id: str) -> None:
        """Lists what is about to be made, on its own. Whoever finds it there once a lease would be over, and nothing
        of it, takes it off the list (`release`)."""
        await self._note_script(keys=[self._of.active], args=[LEASE_SECONDS, object_id])

    async def list_before(self, pipeline: Pipeline, response_id: str) -> None:
        """Lists a run that is about to be accepted: in the pipeline that accepts it, before that. In a cluster the list
        may lie at another node, or its slot move: there the run is on it when this returns, or nothing is accepted."""
        if self._clustered:
            await self._note_script(keys=[self._of.active], args=[LEASE_SECONDS, response_id])
            return
        # (EVAL with its text: redis-py asks in a round trip of its own whether Redis knows the scripts of a pipeline.)
        pipeline.eval(_NOTE, 1, self._of.active, str(LEASE_SECONDS), response_id)

    async def release(self, response_id: str) -> None:
        """Gives the lease up of a run of which nothing is left."""
        await self._redis.zrem(self._of.active, response_id)
        await self._release_script(keys=[self._lease(response_id)], args=[self.holder])

    async def hand_over(self, response_ids: Sequence[str]) -> None:
        """Gives leases up so that other gateways go on at once.

        The leases go first: who found a run on the list and not its lease free would look again only after
        `LEASE_SECONDS`.
        """
        for response_id in response_ids:
            await self._release_script(keys=[self._lease(response_id)], args=[self.holder])
        if response_ids:
            await self._redis.zadd(self._of.active, dict.fromkeys(response_ids, 0))

    async def abandoned(self, limit: int = 32) -> list[str]:
        """Runs whose holder let the deadline pass."""
        return await self._over(self._of.active, limit, within_seconds=2 * LEASE_SECONDS)

    async def ended(self, response_id: str, *, keep_seconds: float) -> None:
        """Notes when what is kept for late readers is to be dropped, then gives the lease up.

        In this order: a gateway that dies in between leaves the run on a list, so that what is kept does not stay.
        """
        await self.list_ended([response_id], keep_seconds=keep_seconds)
        await self._release_script(keys=[self._lease(response_id)], args=[self.holder])

    async def list_ended(self, response_ids: Sequence[str], *, keep_seconds: float) -> None:
        """The same of many runs whose leases were given up with the write that ended them."""
        if self._clustered:
            await self._note_script(keys=[self._of.ended], args=[keep_seconds, *response_ids])
            await self._redis.zrem(self._of.active, *response_ids)
        else:
            await self._move_script(keys=[self._of.ended, self._of.active], args=[keep_seconds, *response_ids])

    async def due(self, limit: int = 128) -> list[str]:
        """Ended runs whose keeping time is over."""
        return await self._over(self._of.ended, limit, within_seconds=math.inf)

    async def dropped(self, response_id: str) -> None:
        """Takes an ended run off the list after its stream was dropped."""
        await self._redis.zrem(self._of.ended, response_id)

    def _lease(self, object_id: str) -> str:
        return lease_key(object_id, self._of.kind)

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


def renewing(settings: RedisSettings) -> RedisSettings:
    """The settings of the client that renews leases. In a cluster a node that does not answer must not hold up the
    renewals at others until their leases are over."""
    changed: dict[str, object] = {"connections": _RENEWING_CONNECTIONS}
    if settings.cluster is not None:
        shortest = max(RENEW_SECONDS, 2 * settings.wait_milliseconds / 1000 if settings.replicas_to_wait else 0.0)
        changed["timeout_seconds"] = min(settings.timeout_seconds, shortest)
    return settings.model_copy(update=changed)
