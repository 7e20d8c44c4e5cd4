"""What all gateways know together of a model that may rest: when it was used last, who waits for it, who moves it.

A gateway's places in the line are leased, and each look at the line renews them: when a gateway dies that holds
requests, these give their places up within a lease's time.

Every time is Redis's own, taken in the script that uses it. Whether a model rests is decided in the same step that
looks at its last use and at who is held, so a request is either seen by whoever lets it rest, or sees that it rests.
"""

from typing import Any, NamedTuple

from cloister_common.vault import Keyring
from redis.asyncio import Redis

from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.storage.layout import held_key, holders_key, waking_key, waking_lease_key

__all__ = ["LEASE_SECONDS", "Idle", "Place", "Rests", "WakingStore"]

LEASE_SECONDS = 15.0
"""Longer than two calls of the Kubernetes API may take: who holds it has moved the model, or given up, before its
end. So is the lease of places: who does not look at the line for so long has died, or stands still."""

_ANY = 2**53
"""More than there can be, and exact in Lua."""

_NOW = "local time = redis.call('TIME') local now = time[1] + time[2] / 1e6 "
# KEYS: state, held, holders. Takes those out of the line whose time is over, and those of gateways whose lease is. (A
# place without a holder is one that a gateway of the version before has taken.)
_CLEAR = """
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now) > 0 then
  for _, place in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    local holder = string.match(place, '^(.*)/')
    if holder and not redis.call('ZSCORE', KEYS[3], holder) then redis.call('ZREM', KEYS[2], place) end
  end
end
"""
# KEYS: state. Says whether it rests.
_USE = _NOW + "redis.call('HSET', KEYS[1], 'used', now) return redis.call('HEXISTS', KEYS[1], 'resting')"
# KEYS: state, held, holders. ARGV: place, or nothing where it is only asked; how many may be held; seconds it may be;
# holder; seconds of its lease. Says its position, or 0; since when the first waits; how long the last waking took.
_HOLD = (
    _NOW
    + _CLEAR
    + """
local held = redis.call('ZCARD', KEYS[2])
if held == 0 then redis.call('HSET', KEYS[1], 'began', now) end
local told = redis.call('HMGET', KEYS[1], 'began', 'took')
local waited = tostring(now - (tonumber(told[1] or now)))
if held >= tonumber(ARGV[2]) then return {0, waited, told[2] or ''} end
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
  redis.call('ZADD', KEYS[3], now + ARGV[5], ARGV[4])
end
redis.call('HSET', KEYS[1], 'used', now)
return {held + 1, waited, told[2] or ''}
"""
)
# KEYS: state, held, holders. ARGV: holder, seconds of its lease. Says whether it rests, all that are held, and whether
# the holder's lease was over, and others have seen to it.
_LINE = (
    _NOW
    + "local lost = redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[1])"
    + _CLEAR
    + """
redis.call('HSET', KEYS[1], 'used', now)
return {redis.call('HEXISTS', KEYS[1], 'resting'), redis.call('ZRANGE', KEYS[2], 0, -1), lost}
"""
)
# KEYS: state, held. ARGV: place, whether it goes on.
_LEAVE = (
    _NOW
    + """
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[1], 'used', now)
local began = redis.call('HGET', KEYS[1], 'began')
if ARGV[2] == '1' and began then redis.call('HSET', KEYS[1], 'took', now - began) end
return 0
"""
)
# KEYS: state, held, holders, lease. ARGV: idle seconds, holder, milliseconds of the lease. What was never used is used
# now.
_REST = (
    _NOW
    + _CLEAR
    + """
local used = tonumber(redis.call('HGET', KEYS[1], 'used') or '')
if not used or used > now then redis.call('HSET', KEYS[1], 'used', now) return {'used', ARGV[1]} end
if redis.call('ZCARD', KEYS[2]) > 0 then return {'used', ARGV[1]} end
local left = used + ARGV[1] - now
if left > 0 then return {'used', tostring(left)} end
if not redis.call('SET', KEYS[4], ARGV[2], 'NX', 'PX', ARGV[3]) then return {'moved', ''} end
if redis.call('HEXISTS', KEYS[1], 'resting') == 1 then return {'resting', ''} end
redis.call('HSET', KEYS[1], 'resting', 1)
return {'rest', ''}
"""
)
# KEYS: state, lease. ARGV: holder, whether it counts as used. Who has not the lease any more is not heard.
_AWAKE = (
    _NOW
    + """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'resting')
if ARGV[2] == '1' then redis.call('HSET', KEYS[1], 'used', now) end
return 1
"""
)
# KEYS: lease. ARGV: holder.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Place(NamedTuple):
    """Where a request stands that is to be held.

    Attributes:
        position: From 1 on; 0 where there is no room.
        waited: Seconds since the first of those who wait came.
        took: Seconds that the last waking took, if there was one.
    """

    position: int
    waited: float
    took: float | None


class Idle(NamedTuple):
    """Whether a model may rest.

    Attributes:
        verdict: ``used``: not yet; ``moved``: somebody else moves it; ``rest``: it rests from now on, and who asked
            has the lease and must see to it; ``resting``: it does already, and who asked has the lease.
        left: Seconds until it may, at least, of one that is used.
    """

    verdict: str
    left: float


class Rests(NamedTuple):
    """Whether a model rests, and who waits for it.

    Attributes:
        resting: Whether it does.
        held: The requests in order. Those of other gateways are told by other names than these know them by.
        lost: Whether this gateway's places were given up meanwhile, since it had stood still.
    """

    resting: bool
    held: list[str]
    lost: bool


class WakingStore:
    """Reads and changes it.

    Args:
        redis: A client.
        keyring: Names models, so that keys do not.
        holder: The name under which this gateway holds leases.
    """

    def __init__(self, redis: Redis, keyring: Keyring, *, holder: str) -> None:
        self._redis = redis
        self._keyring = keyring
        self._holder = holder
        self._names: dict[str, str] = {}
        self._use, self._hold, self._line, self._leave, self._rest, self._awake, self._release = (
            redis.register_script(script) for script in (_USE, _HOLD, _LINE, _LEAVE, _REST, _AWAKE, _RELEASE)
        )

    async def use(self, model: str) -> bool:
        """Notes that it is used now; says whether it rests."""
        name = await self._name(model)
        return bool(await self._use(keys=[waking_key(name)]))

    async def place(self, model: str, *, most: int) -> Place:
        """Where a request would stand that came now."""
        return await self.hold(model, "", most=most, seconds=0)

    async def hold(self, model: str, request: str, *, most: int | None, seconds: float) -> Place:
        """Puts a request into the line, or leaves it there, for so many seconds at most, and for as long as this
        gateway looks at the line (`line`).

        Args:
            model: What it waits for.
            request: A name for it, of this gateway's.
            most: With how many there is no room for it; with None there always is.
            seconds: How long it waits at most.
        """
        place = self._place(request) if request else ""
        arguments: list[str | float] = [place, most or _ANY, seconds, self._holder, LEASE_SECONDS]
        said: Any = await self._hold(keys=await self._line_keys(model), args=arguments)
        return Place(int(said[0]), float(said[1]), float(said[2]) if said[2] else None)

    async def line(self, model: str) -> Rests:
        """Who is held, and whether the model rests; it is used by that, and this gateway's places are leased anew."""
        said: Any = await self._line(keys=await self._line_keys(model), args=[self._holder, LEASE_SECONDS])
        mine = f"{self._holder}/"
        return Rests(bool(said[0]), [place.decode().removeprefix(mine) for place in said[1]], bool(said[2]))

    async def leave(self, model: str, request: str, *, woken: bool) -> None:
        """Takes a request out of the line.

        Args:
            model: What it waited for.
            request: As it was put in.
            woken: Whether it goes on.
        """
        name = await self._name(model)
        await self._leave(keys=[waking_key(name), held_key(name)], args=[self._place(request), int(woken)])

    async def rest(self, model: str, idle_seconds: float) -> Idle:
        """Has it rest, if it was idle for so long and nobody is held; see `Idle`."""
        keys = [*await self._line_keys(model), waking_lease_key(await self._name(model))]
        said: Any = await self._rest(keys=keys, args=[idle_seconds, self._holder, int(LEASE_SECONDS * 1000)])
        return Idle(said[0].decode(), float(said[1] or 0))

    async def take(self, model: str) -> bool:
        """Takes the lease, which lets one gateway alone move the model; says whether it did."""
        key = waking_lease_key(await self._name(model))
        return bool(await self._redis.set(key, self._holder, nx=True, px=int(LEASE_SECONDS * 1000)))

    async def awake(self, model: str, *, used: bool = True) -> None:
        """Notes that it does not rest any more, and by default that it is used; for who has the lease."""
        name = await self._name(model)
        await self._awake(keys=[waking_key(name), waking_lease_key(name)], args=[self._holder, int(used)])

    async def release(self, model: str) -> None:
        """Gives the lease up."""
        await self._release(keys=[waking_lease_key(await self._name(model))], args=[self._holder])

    def _place(self, request: str) -> str:
        """A request's, with who holds it, by whose lease it has it."""
        return f"{self._holder}/{request}"

    async def _line_keys(self, model: str) -> list[str]:
        name = await self._name(model)
        return [waking_key(name), held_key(name), holders_key(name)]

    async def _name(self, model: str) -> str:
        name = self._names.get(model)
        if name is None:
            name = self._names[model] = await self._keyring.name(ORGANIZATION, "waking", model)
        return name
