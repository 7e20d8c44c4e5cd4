"""What takes a model's pods away and brings them back: Kubernetes, by the scale of a workload, or the pods themselves.

Whoever moves a model holds its lease (`cloister_gateway.models.waking.store`), so that two gateways do not do it at
once; that nothing is changed which somebody else has changed meanwhile, Kubernetes sees to by the version it is told.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from cloister_common.logs import get_logger

from cloister_gateway.models.cluster import Cluster, ClusterError, Scale
from cloister_gateway.models.connections import PodClient, PodLostError
from cloister_gateway.models.fleet import Fleet
from cloister_gateway.models.pods import Pod
from cloister_gateway.models.waking.looking import Looking
from cloister_gateway.models.waking.records import Phase, Waking

__all__ = ["Mover", "Scaling", "Sleeping"]

log = get_logger(__name__)

_SLEEP_SECONDS = 10.0
"""A pod copies its weights to its memory before it sleeps: tens of GB take seconds."""
_WAKE_SECONDS = 10.0
"""After which it is asked again: what it does goes on meanwhile."""

_LARGEST_BYTES = 64 * 1024


class Mover(Protocol):
    """One way in which models rest. All of it raises `ClusterError` where that cannot be told or done."""

    async def is_up(self, model: str, waking: Waking) -> bool:
        """Whether nothing rests of it."""

    async def wake(self, model: str, waking: Waking) -> bool:
        """Has it come back; says whether it was away."""

    async def rest(self, model: str, waking: Waking) -> bool:
        """Has it rest; says whether it did not."""

    async def phase(self, model: str) -> Phase:
        """How far it is."""


class Scaling:
    """Scales a workload to none and back.

    Args:
        fleet: The pods that there are.
        looking: Asks them.

    Attributes:
        cluster: The API, once it is open.
    """

    def __init__(self, fleet: Fleet, looking: Looking) -> None:
        self._fleet = fleet
        self._looking = looking
        self._seen: dict[str, Scale] = {}
        self.cluster: Cluster | None = None

    async def is_up(self, model: str, waking: Waking) -> bool:
        """As `Mover.is_up`."""
        return (await self._read(model, waking)).wanted > 0

    async def wake(self, model: str, waking: Waking) -> bool:
        """As `Mover.wake`."""
        return await self._move(model, waking, waking.replicas, away=True)

    async def rest(self, model: str, waking: Waking) -> bool:
        """As `Mover.rest`. Its pods finish what they have."""
        return await self._move(model, waking, 0, away=False)

    async def phase(self, model: str) -> Phase:
        """As `Mover.phase`."""
        seen = self._seen.get(model)
        begun = seen is not None and seen.there > 0
        return await self._looking.phase(self._fleet[model].all, self._fleet.coming(model), begun=begun)

    async def _move(self, model: str, waking: Waking, replicas: int, *, away: bool) -> bool:
        """Scales it, where it is away or where it is not, and nowhere else; says whether it did."""
        scale = await self._read(model, waking)
        if (scale.wanted == 0) is not away:
            return False
        assert waking.workload is not None
        self._seen[model] = await self._api().rescale(waking.workload, replicas, scale.version)
        log.info("model_scaled", model=model, replicas=replicas)
        return True

    async def _read(self, model: str, waking: Waking) -> Scale:
        assert waking.workload is not None
        scale = self._seen[model] = await self._api().scale(waking.workload)
        return scale

    def _api(self) -> Cluster:
        if self.cluster is None:
            raise ClusterError("the API is not open")
        return self.cluster


class Sleeping:
    """Has the pods themselves give their GPUs' memory back, and take it again.

    Args:
        fleet: The pods that there are.
        client: Speaks to them.
        looking: Asks them.
    """

    def __init__(self, fleet: Fleet, client: PodClient, looking: Looking) -> None:
        self._fleet = fleet
        self._client = client
        self._looking = looking

    async def is_up(self, model: str, waking: Waking) -> bool:
        """As `Mover.is_up`."""
        return True not in await self._asleep(self._fleet[model].all)

    async def wake(self, model: str, waking: Waking) -> bool:
        """As `Mover.wake`."""
        pods = self._fleet[model].all
        asleep = [pod for pod, sleeps in zip(pods, await self._asleep(pods), strict=True) if sleeps]
        await asyncio.gather(*(self._tell(model, pod, "/wake_up", _WAKE_SECONDS) for pod in asleep))
        return bool(asleep)

    async def rest(self, model: str, waking: Waking) -> bool:
        """As `Mover.rest`. One that computes does not go to sleep; it is asked again later."""
        path = f"/sleep?level={waking.sleep_level}"
        pods = self._fleet[model].all
        awake = [pod for pod, sleeps in zip(pods, await self._asleep(pods), strict=True) if not sleeps]
        await asyncio.gather(*(self._tell(model, pod, path, _SLEEP_SECONDS) for pod in awake))
        return bool(awake)

    async def phase(self, model: str) -> Phase:
        """As `Mover.phase`."""
        pods = self._fleet[model].all
        awake = [pod for pod, sleeps in zip(pods, await self._asleep(pods), strict=True) if not sleeps]
        if awake or not pods:
            return await self._looking.phase(awake, self._fleet.coming(model), begun=bool(pods))
        return "loading"

    async def _asleep(self, pods: Sequence[Pod]) -> list[bool]:
        """Of each. (Those of a model may be others when all have answered.)"""
        return await asyncio.gather(*map(self._sleeps, pods))

    async def _sleeps(self, pod: Pod) -> bool:
        answer = await self._looking.get(pod, "/is_sleeping")
        return answer is not None and answer[1].get("is_sleeping") is True

    async def _tell(self, model: str, pod: Pod, path: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds), await self._client.post(pod, path, b"") as answer:
                await answer.read(_LARGEST_BYTES)
                status = answer.status
        except (PodLostError, TimeoutError) as error:
            log.warning("model_pod_unmoved", model=model, error=type(error).__name__)
            return
        if status != 200:
            log.warning("model_pod_unmoved", model=model, status=status)
