"""A place: asked for, waited for, given back. What it is a place of, its owner knows."""

import asyncio
import time
from typing import Protocol, Self

from cloister_common.errors import TooManyRequests

__all__ = ["Overloaded", "Owner", "Place"]


LONGEST_WAIT_SECONDS = 55.0
"""Whatever was expected: proxies hang up on a request that is silent for a minute."""


class Overloaded(TooManyRequests):
    """There is as much under way as can be done, and others wait before this one. Nothing in it is the caller's."""

    code = "server_overloaded"

    def __init__(self, retry_after: int, message: str | None = None) -> None:
        super().__init__(
            message
            or "The server has as many generations as it can do, and others wait before this one. Try again after the "
            "seconds that Retry-After says.",
            retry_after=retry_after,
        )


class Owner(Protocol):
    """Whose places they are."""

    def left(self, place: "Place", held_seconds: float | None) -> None:
        """``place`` is needed no more; it was held so long, or goes on elsewhere."""
        ...

    def refuse(self, place: "Place", reason: str) -> Overloaded:
        """The refusal of ``place``, counted and logged."""
        ...


class Place:
    """One place, or the way to it. Give it back, or hand it over; twice is no error.

    Attributes:
        tenant: Whose it is.
        waits: Whether it stands in the queue.
    """

    __slots__ = ("_granted", "_owner", "_since", "tenant", "waits")

    def __init__(self, owner: Owner, tenant: str) -> None:
        self._owner: Owner | None = owner
        self._granted: asyncio.Future[None] | None = None
        self._since = time.monotonic()
        self.tenant = tenant
        self.waits = False

    def queued(self) -> Self:
        """The same, which waits from now on."""
        self._granted = asyncio.get_running_loop().create_future()
        self.waits = True
        return self

    async def wait(self, longest: float | None = LONGEST_WAIT_SECONDS) -> None:
        """Returns when its turn has come. What waits is given back where that fails, or its caller is cancelled.

        Args:
            longest: Seconds that it waits at most; it waits for as long as it takes if None.

        Raises:
            Overloaded: It took longer.
        """
        if self._granted is None:
            return
        try:
            async with asyncio.timeout(longest):
                await self._granted
        except TimeoutError:
            assert self._owner is not None
            refusal = self._owner.refuse(self, "waited_too_long")
            self.give_back()
            raise refusal from None
        except BaseException:
            self.give_back()
            raise
        self._since = time.monotonic()

    def grant(self) -> bool:
        """Its turn has come: it stands in the queue no more. False where its caller has just been cancelled."""
        assert self._granted is not None
        self.waits = False
        if self._granted.done():
            self._owner = None
            return False
        self._granted.set_result(None)
        return True

    def give_back(self) -> None:
        """What it was for has ended, or will not be."""
        self._leave(time.monotonic() - self._since)

    def hand_over(self) -> None:
        """What it was for is counted itself from now on."""
        self._leave(None)

    def _leave(self, held_seconds: float | None) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.left(self, held_seconds)
