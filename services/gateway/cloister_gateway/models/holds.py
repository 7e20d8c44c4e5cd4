"""What pods hold at once, and what one request takes of that."""

import math
from typing import NamedTuple

from cloister_gateway.admission.place import Owner, Place
from cloister_gateway.models.work import WorkClass

__all__ = ["HEADROOM", "Capacity", "Hold", "Sum"]

HEADROOM = 1 / 16
"""What is kept for tenants that have less than that."""
_LEAST_REQUESTS = 16
"""Pods that compute fewer at once have no headroom of requests: one of a few is too much to keep free."""


class Capacity(NamedTuple):
    """What pods hold at once: tokens in their caches, and requests that they compute together."""

    tokens: float = math.inf
    requests: float = math.inf

    def part(self, tokens: float, requests: float) -> float:
        """How much of it that is: of the one that is scarcer."""
        return max(tokens / self.tokens, requests / self.requests)

    def leaves_headroom(self, tokens: float, requests: float) -> bool:
        """Whether that is not of the last that is kept for those who come new."""
        counts = self.requests if self.requests >= _LEAST_REQUESTS else math.inf
        return max(tokens / self.tokens, requests / counts) <= 1 - HEADROOM


class Sum:
    """What some have under way."""

    __slots__ = ("requests", "tokens")

    def __init__(self) -> None:
        self.tokens = 0
        self.requests = 0

    def add(self, tokens: int, requests: int) -> None:
        self.tokens += tokens
        self.requests += requests


class Hold(Place):
    """What one request takes of the pods.

    Attributes:
        work: Its class.
        tokens: By estimate.
        rank: How many its tenant had under way in this class when its turn came, by the tenant's share.
        sudden: Whether it came together with others of its tenant, and has yet to show that they are no flood.
    """

    __slots__ = ("rank", "sudden", "tokens", "work")

    def __init__(self, owner: Owner, tenant: str, work: WorkClass, tokens: int) -> None:
        super().__init__(owner, tenant)
        self.work = work
        self.tokens = tokens
        self.rank = 0
        self.sudden = False

    @property
    def asked_at(self) -> float:
        """When it was asked for (monotonic seconds); for one that waits."""
        return self._since

    @property
    def priority(self) -> int:
        """vLLM's."""
        return self.work.priority + self.rank
