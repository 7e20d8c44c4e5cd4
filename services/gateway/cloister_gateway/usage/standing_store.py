"""What stands whether or not it is asked, in Redis: minutes that pods were there and at work, and bytes that are kept.

All gateways say each minute which pods worked for them; one of them, whichever comes first, then counts the minute. So
each is counted once. All of it lies in the organization's slot, but the bytes, which lie in their project's.
"""

import calendar
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis

from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.storage.layout import usage_key
from cloister_gateway.usage.store import UsageStore

__all__ = ["PodMinutes", "StandingStore"]

_MOST_GAP = 10
"""Minutes that are counted together where no gateway was there for a while: what a restart of all of them takes."""
_BUSY_SECONDS = 900
_TURN_SECONDS = 300
_HOUR_SECONDS = 3600

# KEYS: the last minute that is counted, minutes of the month, pods that worked in that minute. ARGV: the minute, the
# most that are counted together, its place in the month (DAY.HOUR), then of each model its name and how many pods it
# has. Returns how many minutes were counted.
_COUNT = """
local last = tonumber(redis.call('GET', KEYS[1]) or ARGV[1] - 1)
local minutes = math.min(ARGV[1] - last, tonumber(ARGV[2]))
if minutes <= 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
local worked = {}
for _, pod in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  local name = string.match(pod, '^(%S+) ')
  worked[name] = (worked[name] or 0) + 1
end
for i = 4, #ARGV, 2 do
  local name, there = ARGV[i], tonumber(ARGV[i + 1])
  redis.call('HINCRBY', KEYS[2], ARGV[3] .. '.' .. name .. '.there', there * minutes)
  redis.call('HINCRBY', KEYS[2], ARGV[3] .. '.' .. name .. '.worked', math.min(worked[name] or 0, there))
end
return minutes
"""


class PodMinutes(NamedTuple):
    """Of the pods of a model together.

    Attributes:
        there: Minutes that they were there.
        worked: Of these, minutes in which they had something to do.
    """

    there: int = 0
    worked: int = 0

    def plus(self, other: "PodMinutes") -> "PodMinutes":
        """Both together."""
        return PodMinutes(self.there + other.there, self.worked + other.worked)


class StandingStore:
    """Writes and reads them.

    Args:
        redis: Where they lie.
        usage: Names models.
    """

    def __init__(self, redis: Redis, usage: UsageStore) -> None:
        self._redis = redis
        self._usage = usage
        self._count = redis.register_script(_COUNT)

    async def tell_busy(self, minute: int, pods: Iterable[tuple[str, str]]) -> None:
        """Says which pods worked for this gateway in a minute (since 1970): models and addresses."""
        members = [f"{await self._usage.name_of_model(model)} {hash_of}" for model, hash_of in pods]
        if members:
            key = usage_key(ORGANIZATION, f"busy:{minute}")
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.sadd(key, *members)
                pipeline.expire(key, _BUSY_SECONDS)
                await pipeline.execute()

    async def count_minute(self, minute: int, pods: Mapping[str, int]) -> int:
        """Counts a minute that is over, of which every gateway has told; doing it again changes nothing."""
        at = time.gmtime(minute * 60)
        keys = [
            usage_key(ORGANIZATION, "minute"),
            usage_key(ORGANIZATION, time.strftime("pods:%Y%m", at)),
            usage_key(ORGANIZATION, f"busy:{minute}"),
        ]
        arguments: list[Any] = [minute, _MOST_GAP, f"{at.tm_mday}.{at.tm_hour}"]
        for model, there in pods.items():
            arguments += [await self._usage.name_of_model(model), there]
        return int(await self._count(keys=keys, args=arguments))

    async def pod_minutes(self, months: Sequence[str]) -> dict[int, dict[str, PodMinutes]]:
        """By hour (its beginning, Unix seconds) and model, of whole months (``YYYYMM``)."""
        found: dict[int, dict[str, PodMinutes]] = {}
        for month in months:
            stored: dict[bytes, bytes] = await cast(
                "Any", self._redis.hgetall(usage_key(ORGANIZATION, f"pods:{month}"))
            )
            first = _beginning(month)
            parts = [(place.decode().split("."), int(number)) for place, number in stored.items()]
            whom = await self._usage.whom(ORGANIZATION, {name for (_, _, name, _), _ in parts})
            for (day, hour, name, what), number in parts:
                at = first + (int(day) - 1) * 24 * _HOUR_SECONDS + int(hour) * _HOUR_SECONDS
                here = found.setdefault(at, {})
                model = whom[name].model
                more = PodMinutes(number, 0) if what == "there" else PodMinutes(0, number)
                here[model] = here.get(model, PodMinutes()).plus(more)
        return found

    async def holds(self, what: str, gateway: str, seconds: int) -> bool:
        """Whether this gateway is the one that does ``what`` for so many seconds from now."""
        key = usage_key(ORGANIZATION, what)
        if await self._redis.set(key, gateway, nx=True, ex=seconds):
            return True
        if await self._redis.get(key) != gateway.encode():
            return False
        await self._redis.expire(key, seconds)
        return True

    async def takes_turn(self, hour: int) -> bool:
        """Whether this gateway shall look at what is kept in this hour (since 1970): one does, or another after it."""
        key = usage_key(ORGANIZATION, f"kept:{hour}")
        return bool(await self._redis.set(key, b"begun", nx=True, ex=_TURN_SECONDS))

    async def end_turn(self, hour: int) -> None:
        """Nobody need look any more in this hour."""
        await self._redis.set(usage_key(ORGANIZATION, f"kept:{hour}"), b"done", ex=2 * _HOUR_SECONDS)

    async def note_kept(self, project: str, hour: int, kept: int) -> None:
        """The bytes of a project's vector stores in an hour."""
        at = time.gmtime(hour * _HOUR_SECONDS)
        place = f"{at.tm_mday}.{at.tm_hour}"
        key = usage_key(project, time.strftime("kept:%Y%m", at))
        await cast("Any", self._redis.hset(key, place, str(kept)))

    async def kept(self, projects: Sequence[str], months: Sequence[str]) -> list[tuple[str, int, int]]:
        """Of projects, hours (Unix seconds) and the bytes that were kept then."""
        asked = [(project, month) for project in projects for month in months]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for project, month in asked:
                pipeline.hgetall(usage_key(project, f"kept:{month}"))
            stored = await pipeline.execute()
        found = []
        for (project, month), hours in zip(asked, stored, strict=True):
            first = _beginning(month)
            for place, kept in hours.items():
                day, hour = place.split(b".")
                found.append((project, first + ((int(day) - 1) * 24 + int(hour)) * _HOUR_SECONDS, int(kept)))
        return found


def _beginning(month: str) -> int:
    """Of a month (``YYYYMM``), in Unix seconds."""
    return calendar.timegm((int(month[:4]), int(month[4:]), 1, 0, 0, 0))
