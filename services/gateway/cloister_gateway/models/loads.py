"""What the pods say of themselves, asked for every second: the length of their queues, and whether they are ending.

A gateway knows what it asked of a pod itself; what the others ask shows in the pod's queue. A model with one pod has
no choice, so that pod is not asked.
"""

import asyncio

import orjson
from cloister_common.logs import get_logger

from cloister_gateway.models.connections import PodClient, PodLostError
from cloister_gateway.models.fleet import Fleet
from cloister_gateway.models.pods import Load, Pod, Pods

__all__ = ["LOAD_PATH", "Loads"]

log = get_logger(__name__)

LOAD_PATH = "/cloister/load"
_EVERY_SECONDS = 1.0
_WITHIN_SECONDS = 1.0
"""With the pause before it, an answer is at most two seconds old when the next one replaces it."""

_LARGEST_BYTES = 1024


class Loads:
    """Keeps `Pod.load` current."""

    def __init__(self, fleet: Fleet, client: PodClient) -> None:
        self._fleet = fleet
        self._client = client

    async def run(self) -> None:
        """Asks again and again."""
        while True:
            await self.ask()
            await asyncio.sleep(_EVERY_SECONDS)

    async def ask(self) -> None:
        """Asks each pod once."""
        await asyncio.gather(
            *(self._ask(pods, pod) for pods in self._fleet.pods() if len(pods.all) > 1 for pod in pods.all)
        )

    async def _ask(self, pods: Pods, pod: Pod) -> None:
        pods.report(pod, await self._load(pod))

    async def _load(self, pod: Pod) -> Load | None:
        try:
            async with asyncio.timeout(_WITHIN_SECONDS), await self._client.get(pod, LOAD_PATH) as answer:
                body = await answer.read(_LARGEST_BYTES)
                # One without that route is a pod of another release: it has no say, and is well all the same.
                return _read(body) if answer.status == 200 else None
        except (PodLostError, TimeoutError):
            return None


def _read(body: bytes) -> Load | None:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    match said:
        case {"waiting": int(waiting), "ending": bool(ending)}:
            return Load(max(waiting, 0), ending)
    log.warning("pod_load_unreadable")
    return None
