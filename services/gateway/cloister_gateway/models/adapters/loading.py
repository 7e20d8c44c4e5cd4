"""What is asked of pods about adapters: which they have, to load one, to unload one.

All of it may be asked again, and by every gateway: the pod alone knows what it has.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson
from cloister_common.errors import CloisterError, InvalidRequest, Unavailable
from cloister_common.logs import get_logger

from cloister_gateway.models.adapters.metrics import loads
from cloister_gateway.models.adapters.records import Version
from cloister_gateway.models.connections import Answer, PodClient, PodLostError
from cloister_gateway.models.faults import said_by
from cloister_gateway.models.loads import LOAD_PATH
from cloister_gateway.models.pods import Pod

__all__ = ["AdapterLoader", "AdapterUnloaded", "lacking_of"]

log = get_logger(__name__)

_LOAD_PATH = "/cloister/adapters/load"
_UNLOAD_PATH = "/cloister/adapters/unload"
_LOOK_SECONDS = 5.0
_LOAD_SECONDS = 120.0
"""A large adapter is copied from the volume, hashed and loaded between two steps of the engine."""
_LARGEST_BYTES = 256 * 1024
_NOT_LOADED = 404


class AdapterUnloaded(Unavailable):
    """A pod has not got an adapter and cannot load it now, which says nothing about its model."""


def lacking_of(pods: Iterable[Pod], version: Version) -> set[Pod]:
    """Those of ``pods`` that are not known to have ``version``."""
    return {pod for pod in pods if version.served not in pod.adapters}


class AdapterLoader:
    """Asks pods over ``client``. What they answer is noted in `Pod.adapters`."""

    def __init__(self, client: PodClient) -> None:
        self._client = client

    async def look(self, pod: Pod) -> bool:
        """Asks which adapters ``pod`` has; says whether it answered."""
        try:
            async with asyncio.timeout(_LOOK_SECONDS), await self._client.get(pod, LOAD_PATH) as answer:
                body = await answer.read(_LARGEST_BYTES)
        except PodLostError:
            pod.adapters = frozenset()  # It will come back without any.
            return False
        except TimeoutError:
            return False
        if answer.status == 200:
            _note(pod, body)
        return answer.status == 200

    async def ensure(self, pod: Pod, version: Version) -> None:
        """Loads ``version`` where ``pod`` is not known to have it.

        Raises:
            AdapterUnloaded: It could not.
            PodLostError: The pod went away.
        """
        if version.served in pod.adapters:
            return
        try:
            await self.load(pod, version)
        except InvalidRequest as error:
            log.error("adapter_refused", adapter=version.adapter, digest=version.digest, reason=error.message)
            raise _unloaded(version) from error

    async def load(self, pod: Pod, version: Version) -> None:
        """Loads ``version`` on ``pod``; one that is there stays.

        Raises:
            InvalidRequest: The pod refuses it, and why.
            AdapterUnloaded: It could not say.
            PodLostError: The pod went away.
        """
        body = {"name": version.served, "folder": version.folder, "digest": version.digest}
        try:
            await self._change(pod, _LOAD_PATH, body)
        except InvalidRequest:
            loads(version.adapter, "refused").inc()
            raise
        except (AdapterUnloaded, PodLostError):
            loads(version.adapter, "failed").inc()
            raise
        loads(version.adapter, "ok").inc()
        pod.adapters |= {version.served}

    async def unload(self, pod: Pod, served: str) -> None:
        """Has ``pod`` forget what it calls ``served`` once its running answers are done. Raises as `load`."""
        await self._change(pod, _UNLOAD_PATH, {"name": served})
        pod.adapters -= {served}

    async def post(
        self, pod: Pod, path: str, body: bytes, headers: str, version: Version, pods: Iterable[Pod]
    ) -> Answer:
        """As `PodClient.post`, for a request that asks for ``version``, which is loaded first where it has to be.

        Raises:
            AdapterUnloaded: It could not be; or ``pod`` has lost it, and others of ``pods`` have it.
            PodLostError: As there.
        """
        await self.ensure(pod, version)
        answer = await self._client.post(pod, path, body, headers)
        if answer.status != _NOT_LOADED:
            return answer
        # It began anew since it was looked at, or another gateway wants the adapter no more.
        answer.close()
        pod.adapters -= {version.served}
        if any(version.served in other.adapters for other in pods):
            raise _unloaded(version)
        await self.ensure(pod, version)
        return await self._client.post(pod, path, body, headers)

    async def _change(self, pod: Pod, path: str, body: dict[str, Any]) -> None:
        try:
            async with (
                asyncio.timeout(_LOAD_SECONDS),
                await self._client.post(pod, path, orjson.dumps(body)) as answer,
            ):
                raw = await answer.read(_LARGEST_BYTES)
        except TimeoutError as error:
            raise AdapterUnloaded(f"A pod did not load it within {_LOAD_SECONDS:g} s. Try again.") from error
        if answer.status != 200:
            raise _fault(answer.status, raw)
        _note(pod, raw)


def _unloaded(version: Version) -> AdapterUnloaded:
    return AdapterUnloaded(f"The model '{version.adapter}' is not loaded. Try again.", retry_after=5)


def _note(pod: Pod, body: bytes) -> None:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    # A pod of an earlier release says nothing of adapters, and has none.
    names = said.get("adapters", []) if isinstance(said, dict) else []
    pod.adapters = frozenset(name for name in names if isinstance(name, str))


def _fault(status: int, raw: bytes) -> CloisterError:
    if status != 400:
        return AdapterUnloaded("A pod could not load it now. Try again.", retry_after=5)
    said = said_by(raw)
    param, code = said.get("param"), said.get("code")
    return InvalidRequest(
        str(said.get("message") or "The pod refuses the adapter."),
        param=param if isinstance(param, str) else None,
        code=code if isinstance(code, str) else None,
    )
