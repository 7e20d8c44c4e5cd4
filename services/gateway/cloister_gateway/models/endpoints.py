"""The pods of the models whose pods the Kubernetes API tells of, as soon as it does.

For each set of EndpointSlices everything is listed once and then watched from there, minute by minute. What the API
has forgotten the way to (410) is listed anew, and all of it every ten minutes, in case that a change was lost. While
the API is away the pods stay that were known last.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

from cloister_common.logs import get_logger

from cloister_gateway.models.catalog import Catalog, Slices
from cloister_gateway.models.cluster import Cluster, ClusterError, ExpiredError

__all__ = ["Endpoints", "OpenCluster", "Place", "place_of"]

log = get_logger(__name__)

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_RESYNC_SECONDS = 600.0

OpenCluster = Callable[[], AbstractAsyncContextManager[Cluster]]
Place = tuple[str, str]
"""Namespace and selector."""


class Endpoints:
    """Follows the EndpointSlices that the catalog's models name.

    Args:
        catalog: The models.
        open_cluster: Opens the API; only called where a model needs it.
        tell: Called with a selection and the slices that it has now, whenever these are others.
    """

    def __init__(
        self, catalog: Catalog, open_cluster: OpenCluster, tell: Callable[[Place, list[dict[str, Any]]], None]
    ) -> None:
        self._catalog = catalog
        self._open_cluster = open_cluster
        self._tell = tell
        self._changed = asyncio.Event()
        catalog.subscribe(self._changed.set)

    @property
    def places(self) -> set[Place]:
        """What is to be followed."""
        return {place_of(model.kubernetes) for model in self._catalog if model.kubernetes is not None}

    async def run(self) -> None:
        """Follows them, as the catalog has them, until it is cancelled."""
        async with self._open_cluster() as cluster, asyncio.TaskGroup() as group:
            tasks: dict[Place, asyncio.Task[None]] = {}
            while True:
                self._changed.clear()
                places = self.places
                for place in tasks.keys() - places:
                    tasks.pop(place).cancel()
                for place in places - tasks.keys():
                    tasks[place] = group.create_task(self._follow(cluster, place), name="model-endpoints")
                await self._changed.wait()

    async def _follow(self, cluster: Cluster, place: Place) -> None:
        pause = _FIRST_PAUSE_SECONDS
        away = False
        while True:
            try:
                known, version = await self._listed(cluster, place)
                if away:
                    log.info("cluster_there_again", namespace=place[0], selector=place[1])
                pause, away = _FIRST_PAUSE_SECONDS, False
                until = time.monotonic() + _RESYNC_SECONDS
                while time.monotonic() < until:
                    version = await self._watch(cluster, place, known, version)
            except ExpiredError:
                log.info("cluster_listed_anew", namespace=place[0], selector=place[1])
            except ClusterError as error:
                if not away:
                    log.warning("cluster_away", namespace=place[0], selector=place[1], reason=str(error))
                away = True
            else:
                continue
            # Many gateways must not come back in the same moment.
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _listed(self, cluster: Cluster, place: Place) -> tuple[dict[str, dict[str, Any]], str]:
        known, version = await cluster.slices(*place)
        self._tell(place, list(known.values()))
        return known, version

    async def _watch(self, cluster: Cluster, place: Place, known: dict[str, dict[str, Any]], version: str) -> str:
        """One watch, from ``version`` to its end; where the next one begins."""
        began = time.monotonic()
        async with aclosing(cluster.changes(*place, version)) as events:
            async for event in events:
                version = event.version
                if event.kind == "BOOKMARK":
                    continue
                if event.kind == "DELETED":
                    known.pop(event.name, None)
                else:
                    known[event.name] = event.object
                self._tell(place, list(known.values()))
        if time.monotonic() - began < _FIRST_PAUSE_SECONDS:
            await asyncio.sleep(_FIRST_PAUSE_SECONDS)  # A server that ends each watch at once is not asked in a circle.
        return version


def place_of(slices: Slices) -> Place:
    """What is listed and watched for them."""
    return slices.namespace, slices.selector
