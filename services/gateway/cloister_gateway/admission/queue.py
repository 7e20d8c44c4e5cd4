"""Who waits, and who is next: by class first, then fair between tenants by what their requests cost.

**Between tenants** it is start-time fair queuing (Goyal, Vin and Cheng, "Start-Time Fair Queueing", 1996): a tenant's
next request begins, in virtual time, where its last one ended, and that lasted its cost divided by the tenant's weight;
the earliest is served. So tenants who wait get their shares of tokens, not of requests, and one that comes new begins
now: a crowd of one delays no other.

**Between classes** the more urgent comes first. So that the others do not wait for ever, one is served out of turn
once `_PASSED` times what it costs has been let by: a sixteenth of what is served, as long as all of them wait.

**How many** of one tenant may wait depends on how much of the queue is free (a dynamic threshold: Choudhury and Hahne,
"Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998): as many as are free. So a tenant alone
fills half of it, two a third each, and there is always room for the first of one that comes later; and nobody who
waits is ever sent away for the sake of another. Each class has a queue's room for itself.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, NamedTuple, TypeVar

__all__ = ["FairQueue"]

T = TypeVar("T")

_PASSED = 15


class _Entry(NamedTuple, Generic[T]):
    cost: float
    what: T


@dataclass(slots=True)
class _Lane(Generic[T]):
    """A tenant's requests in one class.

    Attributes:
        weight: Its share, against those of others.
        start: When the first of them begins, in virtual time.
        order: Breaks ties: who came first.
        cost: Of all of them.
        entries: In their order.
    """

    weight: float
    start: float
    order: int
    cost: float = 0.0
    entries: deque[_Entry[T]] = field(default_factory=deque)


class _Level(Generic[T]):
    """One class."""

    def __init__(self) -> None:
        self.size = 0
        self.passed = 0.0
        self.lanes: dict[str, _Lane[T]] = {}
        # Of tenants of whom nobody waits, but who were served beyond the time that it is: they begin there.
        self._served_until: dict[str, float] = {}
        self._time = 0.0
        self._orders = count()

    def add(self, tenant: str, entry: _Entry[T], weight: float) -> None:
        lane = self.lanes.get(tenant)
        if lane is None:
            start = max(self._time, self._served_until.pop(tenant, 0.0))
            lane = self.lanes[tenant] = _Lane(weight, start, next(self._orders))
        lane.entries.append(entry)
        lane.cost += entry.cost
        self.size += 1

    def order(self) -> list[str]:
        """The tenants who wait, next first."""
        return sorted(self.lanes, key=lambda tenant: (self.lanes[tenant].start, self.lanes[tenant].order))

    def take(self, tenant: str) -> T:
        """The first of ``tenant``, which is served."""
        lane = self.lanes[tenant]
        entry = lane.entries.popleft()
        self._time = max(self._time, lane.start)
        lane.start += entry.cost / lane.weight
        lane.order = next(self._orders)
        self._forget(tenant, lane, entry)
        return entry.what

    def remove(self, tenant: str, what: T) -> None:
        lane = self.lanes[tenant]
        entry = next(entry for entry in lane.entries if entry.what is what)
        lane.entries.remove(entry)
        self._forget(tenant, lane, entry)

    def _forget(self, tenant: str, lane: _Lane[T], entry: _Entry[T]) -> None:
        self.size -= 1
        lane.cost -= entry.cost
        if not lane.entries:
            del self.lanes[tenant]
            if lane.start > self._time:
                self._served_until[tenant] = lane.start
        if not self.lanes:
            # Nobody waits: whoever comes next owes nobody anything.
            self._served_until.clear()
            self._time = self.passed = 0.0


class FairQueue(Generic[T]):
    """Entries by class and tenant.

    Args:
        room: Most entries of a class.
        levels: How many classes there are; 0 is the most urgent.
    """

    def __init__(self, room: int, levels: int = 1) -> None:
        self._room = room
        self._levels: list[_Level[T]] = [_Level() for _ in range(levels)]

    def __len__(self) -> int:
        return sum(level.size for level in self._levels)

    def waiting(self, tenant: str, level: int = 0) -> int:
        """How many of ``tenant`` wait."""
        lane = self._levels[level].lanes.get(tenant)
        return 0 if lane is None else len(lane.entries)

    def tenants(self, level: int = 0) -> Iterator[str]:
        """Those of whom some wait."""
        return iter(self._levels[level].lanes)

    def size(self, level: int = 0) -> int:
        """How many of a class wait."""
        return self._levels[level].size

    def fits(self, tenant: str, level: int = 0) -> bool:
        """Whether one more of ``tenant`` may wait."""
        return self.waiting(tenant, level) < self._room - self._levels[level].size

    def is_due(self, level: int) -> bool:
        """Whether so much has been let by a class that its first is served out of turn."""
        return self._levels[level].size > 0 and self._is_due(self._levels[level])

    def ahead(self, tenant: str, *, level: int = 0, weight: float = 1.0) -> float:
        """About what those cost who are served before one more of ``tenant``; no less, where all cost the same."""
        at = self._levels[level]
        own = at.lanes.get(tenant)
        mine = own.cost if own is not None else 0.0
        cost = mine
        for lane in at.lanes.values():
            if lane is not own:
                # As much as it gets while mine are served, and one more, which begins before.
                cost += min(lane.cost, mine / weight * lane.weight + lane.entries[0].cost)
        return cost + sum(lane.cost for above in self._levels[:level] for lane in above.lanes.values())

    def add(self, tenant: str, what: T, *, level: int = 0, cost: float = 1.0, weight: float = 1.0) -> None:
        """The last of ``tenant`` from now on."""
        self._levels[level].add(tenant, _Entry(cost, what), weight)

    def order(self) -> Iterator[T]:
        """The first of each tenant who waits, as they are to be served. Ends with the first change of the queue."""
        for level in self._order_of_levels():
            for tenant in self._levels[level].order():
                yield self._levels[level].lanes[tenant].entries[0].what

    def take(self) -> T:
        """The next entry, which waits no more. Raises `KeyError` where none does."""
        for level in self._order_of_levels():
            return self.serve(self._levels[level].order()[0], level=level)
        raise KeyError("nobody waits")

    def serve(self, tenant: str, *, level: int = 0) -> T:
        """The first entry of ``tenant``, which waits no more."""
        at = self._levels[level]
        cost = at.lanes[tenant].entries[0].cost
        what = at.take(tenant)
        at.passed = 0.0
        for below in self._levels[level + 1 :]:
            if below.size:
                below.passed += cost
        return what

    def place(self, tenant: str, what: T, *, level: int = 0) -> int:
        """About how many are served until an entry that waits is, itself included: tenants of a class take turns."""
        lanes = self._levels[level].lanes
        own = next(at for at, entry in enumerate(lanes[tenant].entries, start=1) if entry.what is what)
        others = sum(min(own, len(lane.entries)) for name, lane in lanes.items() if name != tenant)
        return own + others + sum(above.size for above in self._levels[:level])

    def remove(self, tenant: str, what: T, *, level: int = 0) -> None:
        """Takes out an entry that waits."""
        self._levels[level].remove(tenant, what)

    def _order_of_levels(self) -> list[int]:
        waiting = [number for number, level in enumerate(self._levels) if level.size]
        if len(waiting) > 1:
            # (Sorting is stable: those whose turn has come first, the others as they are.)
            waiting.sort(key=lambda number: not self._is_due(self._levels[number]))
        return waiting

    def _is_due(self, level: _Level[T]) -> bool:
        return level.passed >= _PASSED * level.lanes[level.order()[0]].entries[0].cost > 0
