"""Whether pods are well, which they are asked: what a failed call means is found out so."""

import asyncio

from cloister_gateway.models.connections import PodClient, PodLostError
from cloister_gateway.models.fleet import Fleet
from cloister_gateway.models.pods import Pod

__all__ = ["Health"]

_CHECK_SECONDS = 2.0
_LARGEST_ANSWER_BYTES = 64 * 1024


class Health:
    """Asks the pods of ``fleet``."""

    def __init__(self, fleet: Fleet, client: PodClient) -> None:
        self._fleet = fleet
        self._client = client

    async def is_well(self, pod: Pod) -> bool:
        """Whether ``pod`` says that it is."""
        return await self.of(pod) == 200

    async def of(self, pod: Pod) -> int | None:
        """The status of what ``pod`` says of itself; None where it says nothing."""
        try:
            async with asyncio.timeout(_CHECK_SECONDS), await self._client.get(pod, "/health") as answer:
                await answer.read(_LARGEST_ANSWER_BYTES)
                # (Of those who choose, some pass on what generates and nothing else.)
                return 200 if pod.chooses and answer.status in {403, 404, 405} else answer.status
        except (PodLostError, TimeoutError):
            return None

    async def of_all(self, model: str) -> list[int | None]:
        """That of each pod of ``model``."""
        return await asyncio.gather(*(self.of(pod) for pod in self._fleet[model].all))

    async def after_failure(self, model: str, pod: Pod) -> bool:
        """Whether ``pod`` is well, after a request failed there; one that does not say so is left out for a while."""
        if pod.chooses:
            return True  # There is none beside it.
        well = await self.is_well(pod)
        if not well:
            self._fleet[model].failed(pod)
        return well
