"""What the pods say of themselves, asked for every second: their queues, what they hold, and whether they are ending.

A gateway knows what it asked of a pod itself; what the others ask shows in the pod's queue, and in what the pod has
heard from them. Who chooses among the pods is not asked: it knows better.
"""

import asyncio

import orjson
from cloister_common.flight import HEADER, flight_of
from cloister_common.logs import get_logger

from cloister_gateway.models.catalog import Catalog, ChatModel
from cloister_gateway.models.connections import PodClient, PodLostError
from cloister_gateway.models.fleet import Fleet
from cloister_gateway.models.flights import Flights
from cloister_gateway.models.pods import Load, Pod, Pods

__all__ = ["LOAD_PATH", "Loads"]

log = get_logger(__name__)

LOAD_PATH = "/cloister/load"
_EVERY_SECONDS = 1.0
_WITHIN_SECONDS = 1.0
"""With the pause before it, an answer is at most two seconds old when the next one replaces it."""

_LARGEST_BYTES = 16 * 1024


class Loads:
    """Keeps `Pod.load` current, and what follows from it for what may be under way.

    Args:
        catalog: The models.
        fleet: Their pods.
        flights: Is told.
        client: Asks.
    """

    def __init__(self, catalog: Catalog, fleet: Fleet, flights: Flights, client: PodClient) -> None:
        self._catalog = catalog
        self._fleet = fleet
        self._flights = flights
        self._client = client

    async def run(self) -> None:
        """Asks again and again."""
        while True:
            await self.ask()
            await asyncio.sleep(_EVERY_SECONDS)

    async def ask(self) -> None:
        """Asks each pod once."""
        await asyncio.gather(*(self._ask_model(model) for model in self._catalog.bases()))

    async def _ask_model(self, model: ChatModel) -> None:
        pods = self._fleet[model.name]
        word = f"{HEADER}: {self._flights.word(model.name)}\r\n"
        await asyncio.gather(*(self._ask(pods, pod, word) for pod in pods.all if not pod.chooses))
        if self._catalog.find(model.name) is not None:
            self._flights.hear(model, pods.present())

    async def _ask(self, pods: Pods, pod: Pod, word: str) -> None:
        pods.report(pod, await self._load(pod, word))

    async def _load(self, pod: Pod, word: str) -> Load | None:
        try:
            async with asyncio.timeout(_WITHIN_SECONDS), await self._client.get(pod, LOAD_PATH, word) as answer:
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
            return Load(max(waiting, 0), ending, _capacity(said), flight_of(said.get("others")))
    log.warning("pod_load_unreadable")
    return None


def _capacity(said: dict[str, object]) -> tuple[int, int] | None:
    match said:
        case {"tokens": int(tokens), "requests": int(requests)} if tokens > 0 and requests > 0:
            return tokens, requests
    return None
