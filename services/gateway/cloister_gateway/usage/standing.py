"""Counts what costs money while it stands: pods, by the minute, and what vector stores keep, by the hour.

Every gateway notes which pods work for it; each minute and each hour is counted by one of them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from cloister_common.errors import CloisterError
from cloister_common.logs import get_logger

from cloister_gateway.models.catalog import Catalog
from cloister_gateway.models.fleet import Fleet
from cloister_gateway.storage.client import REDIS_AWAY
from cloister_gateway.usage.standing_store import StandingStore

__all__ = ["Standing"]

log = get_logger(__name__)

_LOOK_SECONDS = 2.0
"""How often it is looked which pods have something to do: an answer that is shorter may be missed."""
_GRACE_SECONDS = 20
"""How long after a minute every gateway has told of it."""


_FIRST_SECONDS = 60
"""A gateway that has just been started has other things to do than to look through all vector stores."""


class Standing:
    """Counts. `count_pods` and `count_kept` are each a task of a gateway: what is kept may take long to look through.

    Args:
        store: Where to.
        catalog: The models.
        fleet: Their pods.
        projects: Gives the ids of all projects.
        kept: Gives the bytes of a project's vector stores.
        now: The time (Unix seconds).
    """

    def __init__(
        self,
        store: StandingStore,
        catalog: Catalog,
        fleet: Fleet,
        *,
        projects: Callable[[], Awaitable[Sequence[str]]],
        kept: Callable[[str], Awaitable[int]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._fleet = fleet
        self._projects = projects
        self._kept = kept
        self._now = now
        self._busy: dict[int, set[tuple[str, str]]] = {}
        self._counted = 0
        self._looked = 0
        self._first_look = now() + _FIRST_SECONDS

    async def count_pods(self) -> None:
        """Looks at pods again and again. Runs until it is cancelled."""
        while True:
            try:
                await self.look_at_pods()
            except REDIS_AWAY as error:
                log.warning("pods_not_counted", error=type(error).__name__)
            await asyncio.sleep(_LOOK_SECONDS)

    async def count_kept(self) -> None:
        """Looks what is kept again and again. Runs until it is cancelled."""
        while True:
            try:
                await self.look_at_kept()
            except (*REDIS_AWAY, CloisterError) as error:
                # Whoever comes to it next begins anew: it would be the same with the projects that are left.
                log.warning("kept_bytes_not_counted", error=type(error).__name__)
            await asyncio.sleep(_LOOK_SECONDS)

    async def look_at_pods(self) -> None:
        """Notes who works now, tells of minutes that are over, and counts the last of them if nobody has yet."""
        now = self._now()
        minute = int(now) // 60
        busy = self._busy.setdefault(minute, set())
        for model in self._catalog.bases():
            busy |= {(model.name, pod.url) for pod in self._fleet[model.name].all if pod.running or pod.load.waiting}
        for over in [one for one in self._busy if one < minute]:
            await self._store.tell_busy(over, self._busy[over])
            del self._busy[over]
        last = int(now - _GRACE_SECONDS) // 60 - 1
        if last > self._counted:
            await self._store.count_minute(last, self._there())
            self._counted = last

    async def look_at_kept(self) -> None:
        """Counts what is kept in this hour, if nobody has yet.

        Raises:
            CloisterError: The retriever does not say.
        """
        now = self._now()
        hour = int(now) // 3600
        if hour > self._looked and now > self._first_look and await self._store.takes_turn(hour):
            for project in await self._projects():
                await self._store.note_kept(project, hour, await self._kept(project))
            await self._store.end_turn(hour)
            self._looked = hour

    def _there(self) -> Mapping[str, int]:
        return {model.name: len(self._fleet[model.name].all) for model in self._catalog.bases()}

    async def note_kept(self, project: str) -> None:
        """Looks what the vector stores of a project keep now, as far as anybody says."""
        hour = int(self._now()) // 3600
        try:
            await self._store.note_kept(project, hour, await self._kept(project))
        except CloisterError as error:
            log.warning("kept_bytes_not_known", project=project, error=type(error).__name__)
