"""Whose turn it is: a few jobs work at a time, and no tenant's slow files keep another tenant's waiting.

As many turns again are kept for small files, which so wait for no large one, whosever it is. A file that has such a
turn and turns out to be slow is asked for it after a second.

A free turn goes to the tenant that has the fewest in all processes, and of those to the one whose last is longest ago.
Whoever has had one for ``seconds`` is asked to stand aside when another tenant with fewer turns has a job: one that
waits in the queue, or one that stands aside itself. Standing aside loses nothing. The parser's process is stopped and
goes on later, and passages are embedded a few at a time anyway. As many jobs as there are turns may stand aside; while
they do, further ones stay in the queue. A job that waits for the window of a limit has no turn, and until it goes on no
further file of its tenant is begun here.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from prometheus_client import Counter

__all__ = ["Rank", "Turn", "Turns"]

_YIELDED = Counter("cloister_ingest_turns_yielded_total", "Times a job stood aside for another tenant's.")
_SHARES_KNOWN = 10_000
_SMALL_SECONDS = 1.0
"""A small file takes tenths of one."""


class Rank(NamedTuple):
    """Who comes first: the lesser rank."""

    turns: int
    served: int
    """The number of the share's last turn, counted over all; 0 before the first."""


class Turn:
    """One job's place among those that work.

    Attributes:
        share: Names its tenant.
        small: Whether it has a turn that is kept for small files.
        began: When it got its turn.
    """

    def __init__(self, turns: "Turns", share: str, *, small: bool) -> None:
        self.share = share
        self.small = small
        self.began = time.monotonic()
        self._turns = turns
        self._asked = asyncio.Event()
        self._has_it = asyncio.Event()
        self._has_it.set()

    @property
    def is_asked(self) -> bool:
        """Whether it is to stand aside."""
        return self._asked.is_set()

    @property
    def is_aside(self) -> bool:
        """Whether it waits for its turn."""
        return not self._has_it.is_set()

    async def asked(self) -> None:
        """Returns when the job is to stand aside."""
        await self._asked.wait()

    async def stand_aside(self) -> None:
        """Hands the turn over; returns when it is this job's again."""
        _YIELDED.inc()
        self._has_it.clear()
        self._turns.freed.set()
        await self._has_it.wait()

    async def held(self) -> None:
        """Returns at once, unless the job stands aside or is asked to: then when it has its turn again."""
        if self.is_asked and not self.is_aside:
            await self.stand_aside()
        await self._has_it.wait()

    @contextmanager
    def parking(self) -> Iterator[Callable[[], None]]:
        """Gives what a job calls that waits for something else than a turn. Then it has none, and takes nobody's place;
        behind the block it stands aside, until it gets one again."""
        is_parked = False

        def park() -> None:
            nonlocal is_parked
            if not is_parked:
                is_parked = True
                self._has_it.clear()
                self._turns.park(self)

        try:
            yield park
        finally:
            if is_parked:
                self._turns.unpark(self)

    def ask(self) -> None:
        """Asks for the turn. The job hands it over as soon as it can."""
        self._asked.set()

    def resume(self, *, small: bool) -> None:
        """Gives the turn back."""
        self.small = small
        self.began = time.monotonic()
        self._asked.clear()
        self._has_it.set()


class Turns:
    """The turns of one process.

    Args:
        count: How many jobs work at a time, and how many of small files besides.
        seconds: How long one works before it may be asked to stand aside.
        freed: Set when a turn has become free.
        elsewhere: How many jobs of a share other processes work on.
    """

    def __init__(
        self, count: int, seconds: float, freed: asyncio.Event, elsewhere: Callable[[str], int] = lambda _: 0
    ) -> None:
        self.freed = freed
        self._count = count
        self._seconds = seconds
        self._elsewhere = elsewhere
        self._all: list[Turn] = []
        self._parked: list[Turn] = []
        self._served: dict[str, int] = {}
        self._given = 0

    @property
    def is_free(self) -> bool:
        """Whether a turn can be given to any job now."""
        return sum(not turn.small for turn in self._working()) < self._count

    @property
    def is_small_free(self) -> bool:
        """Whether a turn that is kept for small files can be given now."""
        return sum(turn.small for turn in self._working()) < self._count

    @property
    def has_room(self) -> bool:
        """Whether a job more may be begun, once there is a turn for it."""
        return len(self._all) < 3 * self._count

    def rank(self, share: str) -> Rank:
        """The rank of a share now."""
        turns = sum(turn.share == share for turn in self._working())
        return Rank(turns + self._elsewhere(share), self._served.get(share, 0))

    def begin(self, share: str) -> Turn:
        """Gives a job its first turn: one of those for small files if no other is free."""
        turn = Turn(self, share, small=not self.is_free)
        self._all.append(turn)
        self._note(share)
        return turn

    def end(self, turn: Turn) -> None:
        """The job has ended."""
        self._all.remove(turn)
        self.freed.set()

    def park(self, turn: Turn) -> None:
        """The job waits for something else."""
        self._all.remove(turn)
        self._parked.append(turn)
        self.freed.set()

    def unpark(self, turn: Turn) -> None:
        """The job stands aside: it would go on, or it ends."""
        self._parked.remove(turn)
        self._all.append(turn)
        self.freed.set()

    def is_parked(self, share: str) -> bool:
        """Whether a file of this share waits for something that its next would wait for too."""
        return any(turn.share == share for turn in self._parked)

    def first_aside(self) -> Turn | None:
        """Who of those that stand aside comes first; of one share who stood aside first."""
        return min((turn for turn in self._all if turn.is_aside), key=lambda turn: self.rank(turn.share), default=None)

    def resume(self, turn: Turn) -> None:
        """Gives a job that stood aside its turn again."""
        self._note(turn.share)
        turn.resume(small=not self.is_free)

    def make_way(self, waiting: Iterable[str], waiting_small: Iterable[str] = ()) -> None:
        """Asks one job to stand aside, if any of the shares ``waiting`` or of those aside has a better right.

        The job of the share with most turns, of those the one that has worked longest. The turns for small
        files are for the shares ``waiting_small``.
        """
        if any(turn.is_asked for turn in self._working()):
            return  # one at a time: the next look sees what came of it
        aside = {turn.share for turn in self._all if turn.is_aside}
        if not self._ask({*waiting_small}, small=True):
            self._ask({*waiting, *aside}, small=False)

    def _ask(self, shares: set[str], *, small: bool) -> bool:
        """Asks for one of the turns for small files, or of the others; says whether it did."""
        fewest = min((self.rank(share).turns for share in shares), default=None)
        rested = time.monotonic() - (min(self._seconds, _SMALL_SECONDS) if small else self._seconds)
        able = [turn for turn in self._working() if turn.small == small and turn.began <= rested]
        longest = max(able, key=lambda turn: (self.rank(turn.share).turns, -turn.began), default=None)
        if fewest is None or longest is None or fewest >= self.rank(longest.share).turns:
            return False
        longest.ask()
        return True

    def _working(self) -> list[Turn]:
        return [turn for turn in self._all if not turn.is_aside]

    def _note(self, share: str) -> None:
        if len(self._served) >= _SHARES_KNOWN:
            self._served.clear()
        self._given += 1
        self._served[share] = self._given
