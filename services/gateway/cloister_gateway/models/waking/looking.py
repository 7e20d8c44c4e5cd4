"""How far a model's pods are, by what the pods themselves say and by what is known of them where they say nothing.

The gateway's account in a cluster may read EndpointSlices and the scale of its workloads, and no pods. So a pod that
has no address yet is taken for one without a place. One that has an address and does not accept connections is taken
for one whose image or weights are fetched, the least that can be true: a llm pod listens as soon as its program runs.
What answers before it is ready may say in ``phase`` how far it is.
"""

import asyncio
from collections.abc import Sequence
from typing import cast, get_args

import orjson

from cloister_gateway.models.connections import PodClient, PodLostError
from cloister_gateway.models.pods import Pod
from cloister_gateway.models.waking.records import PHASES, Phase

__all__ = ["Looking"]

_WITHIN_SECONDS = 2.0
_LARGEST_BYTES = 64 * 1024
_READY = "/readyz"
"""Not ``/health``, which a pod that is about to end still answers."""


class Looking:
    """Asks pods.

    Args:
        client: Speaks to them.
    """

    def __init__(self, client: PodClient) -> None:
        self._client = client

    async def phase(self, pods: Sequence[Pod], coming: Sequence[Pod], *, begun: bool) -> Phase:
        """How far the furthest is.

        Args:
            pods: Those that may be asked for answers.
            coming: Those that have an address, and are not ready by the word of who tells of them.
            begun: Whether there are any, even where nobody tells of an address.
        """
        there, seen = await asyncio.gather(self._ask_all(pods), self._ask_all(coming))
        if "ready" in there:
            return "ready"
        if said := [phase for phase in (*there, *seen) if phase is not None]:
            # One that is coming gets no request before it is told of as ready, whatever it says itself.
            return min(max(said, key=PHASES.index), "compiling", key=PHASES.index)
        if coming:
            return "pulling"
        # A program on this machine has nothing to fetch.
        return "loading" if begun and pods else "scheduling"

    async def _ask_all(self, pods: Sequence[Pod]) -> list[Phase | None]:
        return await asyncio.gather(*map(self.ask, pods))

    async def ask(self, pod: Pod) -> Phase | None:
        """How far ``pod`` is; None where it does not answer."""
        answer = await self.get(pod, _READY)
        if answer is None:
            return None
        status, body = answer
        if status == 200:
            return "ready"
        told = body.get("phase")
        return cast("Phase", told) if told in get_args(Phase) else "loading"

    async def get(self, pod: Pod, path: str) -> tuple[int, dict[str, object]] | None:
        """Status and JSON object of what ``pod`` answers within two seconds, or None."""
        try:
            async with asyncio.timeout(_WITHIN_SECONDS), await self._client.get(pod, path) as answer:
                raw = await answer.read(_LARGEST_BYTES)
        except (PodLostError, TimeoutError):
            return None
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
        return answer.status, body if isinstance(body, dict) else {}
