"""What each tenant wants of a model's pods, so that one that wants too much is told from those that come beside it.

A **modest** tenant wants no more, with what it has under way and what of it waits, than

- what the others leave, up to half of the pods, or
- its share among those who come, if that is more;

and one request is never too much. Where some ask for more than that, the modest ones are those for whom room is left:
they need not wait, and the **crowd**, all the others and what is less urgent than an answer that somebody waits for, is
held small beside them.
"""

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from cloister_common.flight import Flight

from cloister_gateway.models.holds import Capacity, Hold, Sum
from cloister_gateway.models.work import WorkClass

__all__ = ["Demand"]

K = TypeVar("K")

_RECENT_SECONDS = 30.0
"""Whose last request is no longer ago than this still comes: people read before they ask again."""
_MOST_LEFT = 0.5


class Demand:
    """What is under way and what waits, by class and tenant.

    Args:
        share_of: The share of a tenant.

    Attributes:
        all: Under way.
    """

    def __init__(self, share_of: Callable[[str], float]) -> None:
        self._share_of = share_of
        self.all = Sum()
        self._held: dict[tuple[WorkClass, str], Sum] = {}
        self._less_urgent = Sum()
        # Of interactive requests: by tenant, with what waits; and of all tenants.
        self._wanted: dict[str, Sum] = {}
        self._wanted_by_all = Sum()
        # Tenants whose interactive requests came, and when; the newest last.
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._shares = 0.0  # theirs together

    def held(self, work: WorkClass, tenant: str) -> Sum:
        """What ``tenant`` has under way in a class."""
        return self._held.get((work, tenant)) or Sum()

    def come(self, tenant: str) -> float:
        """An interactive request of ``tenant`` has come; so many seconds after the one before it."""
        now = self._pass_time()
        before = self._seen.get(tenant)
        if before is None:
            self._shares += self._share_of(tenant)
        self._seen[tenant] = now
        self._seen.move_to_end(tenant)
        return math.inf if before is None else now - before

    def begin(self, hold: Hold, change: int = 1) -> None:
        """``hold`` is under way; with -1 it is no more."""
        tokens = hold.tokens * change
        self.all.add(tokens, change)
        if hold.work is not WorkClass.INTERACTIVE:
            self._less_urgent.add(tokens, change)
        _add(self._held, (hold.work, hold.tenant), tokens, change)
        self.want(hold, change)

    def want(self, hold: Hold, change: int = 1) -> None:
        """``hold`` waits; with -1 it does so no more."""
        if hold.work is WorkClass.INTERACTIVE:
            self._wanted_by_all.add(hold.tokens * change, change)
            _add(self._wanted, hold.tenant, hold.tokens * change, change)

    def is_modest(self, tenant: str, limit: Capacity, others: Flight, more: Hold | None = None) -> bool:
        """Whether what a tenant wants, with ``more`` that is not counted yet, is no more than it should have.

        Args:
            tenant: The tenant.
            limit: What there is.
            others: What other gateways say.
            more: What it asks for.
        """
        self._pass_time()
        return self._is_modest(tenant, limit, others, more)

    def others_come(self, hold: Hold, limit: Capacity, others: Flight) -> bool:
        """Whether there are modest ones, here or at other gateways, beside whom ``hold`` would be part of a crowd."""
        urgent = hold.work is WorkClass.INTERACTIVE
        names = {_name(hold.tenant)} if urgent else frozenset[str]()
        if others.light - names:
            return True
        self._pass_time()
        recent = (tenant for tenant in reversed(self._seen) if not (urgent and tenant == hold.tenant))
        return any(self._is_modest(tenant, limit, others) for tenant in recent)

    def crowd(self, hold: Hold, limit: Capacity, others: Flight) -> Sum:
        """What the crowd has under way of which ``hold`` would be part."""
        self._pass_time()
        crowd = Sum()
        crowd.add(self._less_urgent.tokens, self._less_urgent.requests)
        for (work, tenant), held in self._held.items():
            if work is not WorkClass.INTERACTIVE:
                continue
            if (work, tenant) == (hold.work, hold.tenant) or not self._is_modest(tenant, limit, others):
                crowd.add(held.tokens, held.requests)
        return crowd

    def modest(self, limit: Capacity, others: Flight, most: int) -> frozenset[str]:
        """The modest tenants who come here, as other gateways are told of them; ``most`` of them."""
        self._pass_time()
        modest = (tenant for tenant in reversed(self._seen) if self._is_modest(tenant, limit, others))
        return frozenset(_name(tenant) for tenant in islice(modest, most))

    def _is_modest(self, tenant: str, limit: Capacity, others: Flight, more: Hold | None = None) -> bool:
        wanted, tokens, requests = self._wanted.get(tenant) or Sum(), 0, 0
        if more is not None:
            tokens, requests = more.tokens, 1
        if wanted.requests + requests <= 1:
            return True
        part = limit.part(wanted.tokens + tokens, wanted.requests + requests)
        of_others = limit.part(
            self._wanted_by_all.tokens - wanted.tokens, self._wanted_by_all.requests - wanted.requests
        )
        if part <= min(_MOST_LEFT, 1 - of_others):
            return True
        own = self._share_of(tenant)
        shares = self._shares if tenant in self._seen else self._shares + own
        elsewhere = len(others.light - {_name(tenant)}) if others.light else 0
        return part <= own / (shares + elsewhere)

    def _pass_time(self) -> float:
        """Lets go of who comes no more; says what time it is. (Thousands may come: nobody is asked about each.)"""
        now = time.monotonic()
        while self._seen and now - next(iter(self._seen.values())) > _RECENT_SECONDS:
            tenant, _ = self._seen.popitem(last=False)
            self._shares -= self._share_of(tenant)
        if not self._seen:
            self._shares = 0.0
        return now


def _add(sums: dict[K, Sum], key: K, tokens: int, requests: int) -> None:
    one = sums.setdefault(key, Sum())
    one.add(tokens, requests)
    if not one.requests:
        del sums[key]


def _name(tenant: str) -> str:
    return hashlib.blake2b(tenant.encode(), digest_size=6).hexdigest()
