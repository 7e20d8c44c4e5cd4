"""vLLM's sleep mode: the pod stays, its GPU's memory is free, and it wakes within seconds.

vLLM's own routes need its development mode, which opens others; here the engine is asked what they ask it. At level 1
the weights wait in the pod's memory; at level 2 they are thrown away, and read from the disk again. The cache of
prefixes is empty after both. While it sleeps the pod says that it is well, so that it stays where gateways look for it,
and refuses what would compute.
"""

import asyncio
from typing import Any, Protocol
from urllib.parse import parse_qs

from cloister_common.errors import Conflict, InvalidRequest, NotFound, Unavailable
from cloister_common.logs import get_logger

from cloister_llm.guard.drain import Drain
from cloister_llm.settings import LlmSettings

__all__ = ["SLEEP_PATHS", "Sleep", "SleepingEngine"]

log = get_logger(__name__)

_SLEEP, _WAKE, _ASK = ("POST", "/sleep"), ("POST", "/wake_up"), ("GET", "/is_sleeping")
SLEEP_PATHS = frozenset({_SLEEP, _WAKE, _ASK})
"""Named as vLLM's own."""

_TOKENS = "/tokenize"
"""What a sleeping pod does: no GPU is needed for it."""


class SleepingEngine(Protocol):
    """As `vllm.engine.protocol.EngineClient` has it."""

    async def sleep(self, level: int = 1) -> None:
        """Gives the GPU's memory back."""

    async def wake_up(self, tags: list[str] | None = None) -> object:
        """Takes it again, for what ``tags`` names."""

    async def collective_rpc(self, method: str) -> object:
        """Has each worker do something."""


class Sleep:
    """Whether this pod sleeps.

    Args:
        settings: Of the pod.
        drain: Knows what runs.
    """

    def __init__(self, settings: LlmSettings, drain: Drain) -> None:
        self._settings = settings
        self._drain = drain
        self._level = 0
        self._moving = asyncio.Lock()

    def check(self, path: str) -> None:
        """Raises `Unavailable` where the pod sleeps, or is about to, and ``path`` needs it awake."""
        if self._level and path != _TOKENS:
            raise Unavailable("This pod sleeps. Wake it first.", code="pod_sleeps", retry_after=1)

    async def ask(self, method: str, path: str, query: bytes, engine: SleepingEngine) -> dict[str, Any]:
        """Has it sleep or wake, or says whether it sleeps. What it is already is not done again.

        Raises:
            NotFound: The pod was started without sleep.
            InvalidRequest: It does not sleep so.
            Conflict: It computes.
        """
        if not self._settings.engine.sleep:
            raise NotFound(
                f"Invalid URL ({method} {path}): this pod does not sleep. Set its engine.sleep.", code="unknown_url"
            )
        if (method, path) == _SLEEP:
            await self._sleep(self._asked_level(query), engine)
        elif (method, path) == _WAKE:
            await self._wake(engine)
        return {"is_sleeping": self._level > 0}

    def _asked_level(self, query: bytes) -> int:
        given = parse_qs(query.decode("latin-1")).get("level", ["1"])
        if given not in (["1"], ["2"]):
            raise InvalidRequest("Invalid value for 'level': must be 1 or 2.", param="level")
        if given == ["2"] and self._settings.lora is not None:
            # What lies in their slots would be gone, and nobody would say so.
            raise InvalidRequest("A pod that takes adapters sleeps at level 1 only.", param="level")
        return int(given[0])

    async def _sleep(self, level: int, engine: SleepingEngine) -> None:
        async with self._moving:
            if self._level:
                return
            if self._drain.running:
                raise Conflict("This pod computes, so it does not sleep now.", code="pod_computes")
            # From here on nothing new begins.
            self._level = level
            try:
                await engine.sleep(level)
            except BaseException:
                self._level = 0
                raise
            log.info("pod_sleeps", level=level)

    async def _wake(self, engine: SleepingEngine) -> None:
        async with self._moving:
            if self._level == 2:
                # As vLLM says: room for the weights, then these, and only then room for the cache.
                await engine.wake_up(["weights"])
                await engine.collective_rpc("reload_weights")
                await engine.wake_up(["kv_cache"])
            elif self._level:
                await engine.wake_up()
            else:
                return
            self._level = 0
            log.info("pod_woken")
