"""What is reserved and used, in Redis: one script, and one round trip, for all levels of a decision.

All counts of a project lie in one slot, those of the organization in another. Where there is one Redis, a decision is
one step over both. In a cluster it is two: first at the project, then at the organization, whose refusal gives back
what the project gave. So a limit may refuse one more than it had to, for a moment, and none is ever overrun.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis

from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.limits.rules import Bound, Unit
from cloister_gateway.limits.scripts import EXPIRE, LOST, RENEW, RESERVE, SETTLE
from cloister_gateway.storage.client import is_cluster, nodes_of
from cloister_gateway.storage.layout import LIMIT_OWNERS, limit_leases_key, reservations_key

__all__ = ["LEASE_SECONDS", "Amounts", "Count", "Group", "Lost", "Reservations", "Stand"]

LEASE_SECONDS = 15.0
"""How long what a dead gateway reserved stands. Runs are taken over within 5 s, and renewed from then on."""

_LATE_SECONDS = 86_400
"""So long a generation whose lease is over may still be settled with what it really used: its run may go on when a
gateway is there again."""

_EXPIRED_TOGETHER = 64


Lost = Callable[[str], Awaitable[None]]


class Count(NamedTuple):
    """What counts for a limit.

    Attributes:
        key: Where it lies.
        bound: What the limit is about.
        most: How much it allows.
    """

    key: str
    bound: Bound
    most: int


class Amounts(NamedTuple):
    """What a generation wants, at most.

    Attributes:
        read: Tokens of its prompt.
        written: Tokens of its answers.
        together: Both, which may have to share a context.
        price_read: Of a token that is read, in millionths.
        price_written: Of a token that is written.
    """

    read: int
    written: int
    together: int
    price_read: float = 0.0
    price_written: float = 0.0

    def of(self, unit: Unit) -> int:
        """How much of what a limit counts."""
        match unit:
            case "input_tokens":
                return self.read
            case "output_tokens":
                return self.written
            case "tokens":
                return self.together
            case "spend":
                return math.ceil(self.read * self.price_read + self.written * self.price_written)
            case _:
                return 1


class Group(NamedTuple):
    """Counts of one slot, ready for the script: whose they are, where they lie, what it is told of each."""

    owner: str
    keys: tuple[str, ...]
    told: tuple[str, ...]
    counts: tuple[Count, ...]


class Stand(NamedTuple):
    """How a count stands.

    Attributes:
        limit: What counts.
        used: What is used and reserved; with the amount, if that was reserved.
        seconds: Until its time is over, and it counts anew; 0 or less where it has none.
    """

    limit: Count
    used: int
    seconds: int


class Reservations:
    """Reserves and settles. What fails with an error of Redis may have happened.

    Args:
        redis: Where they are kept.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._clustered = is_cluster(redis)
        self._reserve = redis.register_script(RESERVE)
        self._settle = redis.register_script(SETTLE)
        self._renew = redis.register_script(RENEW)
        self._lost = redis.register_script(LOST)
        self._expire = redis.register_script(EXPIRE)
        self._listed: set[str] = set()

    def groups(self, project: str, counts: Iterable[Count]) -> tuple[Group, ...]:
        """Counts of a generation of ``project`` by the steps in which they are reserved: one slot each. The project's
        comes first, since most is refused there."""
        found: dict[str, list[Count]] = {}
        for count in sorted(counts, key=lambda count: count.bound.level == "organization"):
            is_ours = self._clustered and count.bound.level == "organization"
            found.setdefault(ORGANIZATION if is_ours else project, []).append(count)
        return tuple(
            Group(
                owner,
                (limit_leases_key(owner), reservations_key(owner), *(count.key for count in mine)),
                tuple(f"{count.bound.unit}|{count.bound.per or ''}|{count.most}" for count in mine),
                tuple(mine),
            )
            for owner, mine in found.items()
        )

    def held_at(self, groups: Sequence[Group]) -> str | None:
        """The hash in which a generation stands by its id once it is reserved. None in a cluster, where nothing else
        can be written in the same step."""
        return None if self._clustered else groups[0].keys[1]

    async def reserve(
        self, generation: str, groups: Sequence[Group], amounts: Amounts, note: str = ""
    ) -> tuple[bool, list[Stand]]:
        """Reserves what is wanted of all counts, or of none. ``note`` tells of the generation to who finds it lost.

        Returns:
            Whether it is reserved, and how the counts stand that were looked at.
        """
        stands: list[Stand] = []
        for place, (owner, keys, told, counts) in enumerate(groups):
            if owner not in self._listed:
                await self._redis.sadd(LIMIT_OWNERS, owner)
                self._listed.add(owner)
            said: Any = await self._reserve(keys=keys, args=(generation, LEASE_SECONDS, *amounts, note, *told))
            here = list(map(Stand, counts, said[2::2], said[1::2]))
            if not said[0]:
                for earlier in groups[:place]:
                    await self._settle_at(earlier.owner, generation, 0, 0, 0)
                return False, here
            stands += here
        return True, stands

    async def used(self, count: Count) -> int:
        """What is used and reserved of a count over a time."""
        # redis-py types its asynchronous hash commands as value or awaitable.
        ends, used = await cast("Any", self._redis.hmget(count.key, "e", "u"))
        if ends is None:
            return 0
        (node, *_) = await nodes_of(self._redis)
        seconds, _ = await node.time()
        return int(used) if int(float(ends)) > seconds else 0

    async def settle(self, project: str, generation: str, read: int, written: int, *, requests: int = 1) -> bool:
        """Settles a generation with what it used, in tokens. False if that is more than it had reserved."""
        owners = [project, ORGANIZATION] if self._clustered else [project]
        told = [await self._settle_at(owner, generation, read, written, requests) for owner in owners]
        return 2 not in told

    async def renew(self, project: str, generations: Sequence[str]) -> set[str]:
        """Renews the leases of generations of a project; says for which something is held."""
        owners = [project, ORGANIZATION] if self._clustered else [project]
        held: set[str] = set()
        for owner in owners:
            keys = [limit_leases_key(owner), reservations_key(owner)]
            told: Any = await self._renew(keys=keys, args=[LEASE_SECONDS, *generations])
            held |= {generation for generation, found in zip(generations, told, strict=True) if found}
        return held

    async def expire(self, lost: Lost | None = None) -> Mapping[str, int]:
        """Lets go of what nobody renews any more. It counts as used. Says of how many generations, by owner.

        ``lost`` is told of each before, and again where this was interrupted.
        """
        members: Any = await cast("Any", self._redis.smembers(LIMIT_OWNERS))
        owners = [member.decode() for member in members]
        if not owners:
            return {}
        (node, *_) = await nodes_of(self._redis)
        # A little late, whatever the clocks of nodes say; the script looks again.
        seconds, _ = await node.time()
        async with self._redis.pipeline(transaction=False) as pipeline:
            for owner in owners:
                pipeline.zcount(limit_leases_key(owner), "-inf", seconds)
            due: list[int] = await pipeline.execute()
        over = [owner for owner, count in zip(owners, due, strict=True) if count]
        let_go = await asyncio.gather(*(self._expire_at(owner, lost) for owner in over))
        return {owner: count for owner, count in zip(over, let_go, strict=True) if count}

    async def _expire_at(self, owner: str, lost: Lost | None) -> int:
        keys = [limit_leases_key(owner), reservations_key(owner)]
        if lost is not None:
            notes: Any = await self._lost(keys=keys, args=[_EXPIRED_TOGETHER])
            await asyncio.gather(*(lost(note.decode()) for note in notes))
        return int(await self._expire(keys=keys, args=[_EXPIRED_TOGETHER, _LATE_SECONDS]))

    async def _settle_at(self, owner: str, generation: str, read: int, written: int, requests: int) -> int:
        keys = [limit_leases_key(owner), reservations_key(owner)]
        return int(await self._settle(keys=keys, args=[generation, read, written, requests]))
