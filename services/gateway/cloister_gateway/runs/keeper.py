"""Keeps the leases of all runs of this gateway, with one task.

It renews them, hears of cancellations whose message was lost, ends what nobody follows, and lists what has ended.

The leases are renewed on connections of their own, so that a renewal never waits behind what the runs write. Even so
it may come late where the process itself stands still or has too much to do: see `Leases.renew_all`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor

from cloister_gateway.runs.lease import LEASE_SECONDS, RENEW_SECONDS, Leases, renewing
from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage import RecordGoneError
from cloister_gateway.storage.client import REDIS_AWAY, command_client
from cloister_gateway.streams.events import DeposedError, EventStream

__all__ = ["Held", "Keeper", "open_keeper"]

log = get_logger(__name__)

_LISTED_TOGETHER = 1000
_SOON_SECONDS = 0.2
"""Until the next round after one in which Redis did not answer."""


class Held(Protocol):
    """A run, as its keeper sees it."""

    @property
    def id(self) -> str:
        """The response's."""
        ...

    @property
    def is_followed_here(self) -> bool:
        """Whether it goes on without a look at who follows it on other gateways."""
        ...

    def cancel(self) -> None:
        """Somebody asked for it."""
        ...

    def lose(self, error: Exception) -> None:
        """It is this gateway's no more: ``error`` says why."""
        ...

    def note_followed(self, followed: bool) -> None:
        """Whether anybody follows it on any gateway."""
        ...


class Keeper:
    """Keeps the leases of the runs it is given.

    Args:
        leases: The leases; over a client of their own.
        stream: Says which runs are followed on other gateways.
        supervisor: Runs the task.
        keep_seconds: How long the streams of runs that have ended are kept.
    """

    def __init__(self, leases: Leases, stream: EventStream, supervisor: Supervisor, *, keep_seconds: float) -> None:
        self._leases = leases
        self._stream = stream
        self._supervisor = supervisor
        self._keep_seconds = keep_seconds
        self._runs: dict[str, Held] = {}
        # When the last renewal was sent that was granted (monotonic seconds).
        self._renewed: dict[str, float] = {}
        self._ended: list[str] = []
        self._keeping = False

    def keep(self, run: Held) -> None:
        """Keeps the lease of a run that was taken just now."""
        self._runs[run.id] = run
        self._renewed[run.id] = time.monotonic()
        if not self._keeping:
            self._keeping = True
            self._supervisor.spawn("leases", self._keep())

    def note_ended(self, run: Held) -> None:
        """Has a run listed with the next round, whose end was written. Until then it is on the list of those that run:
        whoever finds it there, since this gateway died, finds that it has ended and lists it himself."""
        self._ended.append(run.id)

    def let_go(self, run: Held) -> None:
        """Keeps it no longer; twice is no error."""
        if self._runs.get(run.id) is run:
            del self._runs[run.id], self._renewed[run.id]

    async def _keep(self) -> None:
        """Goes on until there is no run. What goes wrong with one round must not end it: all runs depend on it."""
        try:
            pause = RENEW_SECONDS
            while self._runs or self._ended:
                await asyncio.sleep(pause)
                pause = RENEW_SECONDS
                try:
                    if unknown := await self._renew():
                        pause = _SOON_SECONDS
                        log.warning("leases_not_renewed", runs=unknown)
                    else:
                        await self._look_for_followers()
                    await self.list_ended()
                except REDIS_AWAY as error:
                    pause = _SOON_SECONDS
                    log.warning("leases_not_renewed", runs=len(self._runs), error=type(error).__name__)
                except Exception:
                    log.exception("leases_not_renewed", runs=len(self._runs))
        finally:
            self._keeping = False

    async def _renew(self) -> int:
        """Renews all leases; says of how many runs Redis has not told how they stand."""
        now = time.monotonic()
        late = {name: now - renewed > LEASE_SECONDS for name, renewed in self._renewed.items()}
        if not late:
            return 0
        told = await self._leases.renew_all(late)
        for name, standing in told.items():
            run = self._runs.get(name)
            if run is None:
                continue  # It has ended meanwhile.
            if standing.gone:
                run.lose(RecordGoneError())
            elif not standing.ours:
                run.lose(DeposedError())
            else:
                self._renewed[name] = now
                if standing.cancelled:
                    run.cancel()
                continue
            self.let_go(run)
        return len(late) - len(told)

    async def list_ended(self) -> None:
        """Lists the runs that have ended, now."""
        while self._ended:
            ended = self._ended[:_LISTED_TOGETHER]
            await self._leases.list_ended(ended, keep_seconds=self._keep_seconds)
            del self._ended[: len(ended)]

    async def _look_for_followers(self) -> None:
        alone = [run for run in self._runs.values() if not run.is_followed_here]
        followed = await self._stream.watched([run.id for run in alone]) if alone else set()
        _tell(alone, followed)


def _tell(runs: Iterable[Held], followed: set[str]) -> None:
    for run in runs:
        run.note_followed(run.id in followed)


@asynccontextmanager
async def open_keeper(
    settings: RedisSettings, holder: str, supervisor: Supervisor, *, keep_seconds: float
) -> AsyncIterator[Keeper]:
    """A keeper of the leases that ``holder`` has, over a client of its own, which is closed with it."""
    client = command_client(renewing(settings))
    try:
        yield Keeper(Leases(client, holder=holder), EventStream(client), supervisor, keep_seconds=keep_seconds)
    finally:
        await client.aclose()
