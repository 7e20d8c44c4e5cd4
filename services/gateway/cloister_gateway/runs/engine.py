"""Starts runs, finds those whose gateway has died, and drops what is kept no longer."""

import asyncio
from typing import Any

from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from redis.asyncio import Redis

from cloister_gateway.control import Control
from cloister_gateway.responses.store import KIND, Header
from cloister_gateway.runs.feed import Hub
from cloister_gateway.runs.run import Run, RunParts
from cloister_gateway.state import Owner, record_key

__all__ = ["Engine"]

log = get_logger(__name__)

_SWEEP_SECONDS = 1.0
_CANCEL = "run.cancel"


class Engine:
    """The runs of this gateway."""

    def __init__(self, parts: RunParts, *, hub: Hub, control: Control, supervisor: Supervisor, redis: Redis) -> None:
        self._parts = parts
        self._hub = hub
        self._control = control
        self._supervisor = supervisor
        self._redis = redis
        self._runs: dict[str, Run] = {}
        self._starting: set[str] = set()
        control.subscribe(_CANCEL, self._on_cancel)
        supervisor.loop("runs-sweep", self._sweep)

    async def start(
        self, owner: Owner, conversation: Owner | None, request: dict[str, Any], body: dict[str, Any]
    ) -> None:
        """Starts a run whose lease this gateway holds. Returns when its feed can be watched."""
        opened = asyncio.Event()
        self._starting.add(owner.id)
        self._supervisor.spawn("run", self._run(owner, conversation, request, body, opened))
        await opened.wait()

    async def cancel(self, response_id: str) -> None:
        """Asks whichever gateway runs it to stop. The end is seen in the run's events."""
        await self._parts.store.request_cancel(response_id)
        await self._control.publish(_CANCEL, {"id": response_id})

    async def hand_over(self) -> None:
        """Lets other gateways take this one's runs at once, when this process ends."""
        for run in list(self._runs.values()):
            await self._parts.leases.release(KIND, run.owner.id, hand_over=True)

    async def _run(
        self,
        owner: Owner,
        conversation: Owner | None,
        request: dict[str, Any],
        body: dict[str, Any],
        opened: asyncio.Event,
    ) -> None:
        try:
            async with self._hub.own(owner) as feed:
                run = Run(owner, conversation, request, body, self._parts, feed)
                self._runs[owner.id] = run
                opened.set()
                if feed.final:
                    await run.repair()
                else:
                    await run.execute()
        finally:
            opened.set()
            self._runs.pop(owner.id, None)
            self._starting.discard(owner.id)

    def _on_cancel(self, payload: dict[str, Any]) -> None:
        run = self._runs.get(payload["id"])
        if run is not None:
            run.cancel()

    async def _sweep(self) -> None:
        while not self._supervisor.stopping.is_set():
            for response_id in await self._parts.leases.abandoned():
                if response_id not in self._starting:
                    await self._adopt(response_id)
            for response_id in await self._parts.leases.due():
                await self._drop(response_id)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _adopt(self, response_id: str) -> None:
        """Takes a run over whose owner let its lease go."""
        if not await self._parts.leases.take(KIND, response_id):
            return
        header = await self._parts.store.header(response_id)
        owner = None if header is None else await self._parts.store.owner(header)
        if header is None or owner is None or header.done:
            await self._parts.leases.release(KIND, response_id)
            if header is not None and header.done:
                keep = self._parts.settings.keep_stream_seconds
                await self._parts.leases.ended(response_id, keep_seconds=keep)
            return
        conversation = Owner("conv", header.conversation, owner.key) if header.conversation else None
        if conversation is not None and not await self._was_accepted(header):
            # The gateway died before the input was in the conversation: nobody was told that it was taken.
            await self._parts.store.destroy(header)
            await self._parts.leases.release(KIND, response_id)
            return
        request = await self._parts.store.read(owner, "request")
        body = await self._parts.store.read(owner, "body")
        log.info("run_adopted", response_id=response_id)
        await self.start(owner, conversation, request, body)

    async def _was_accepted(self, header: Header) -> bool:
        holder: Any = await self._redis.hget(record_key("conv", header.conversation), "run")
        return bool(holder is not None and holder.decode() == header.id) or bool(
            await self._redis.exists(f"{record_key(KIND, header.id)}:events")
        )

    async def _drop(self, response_id: str) -> None:
        """Drops an ended run's stream, and the whole record if it was not to be stored."""
        header = await self._parts.store.header(response_id)
        if header is not None and not header.stored:
            await self._parts.store.destroy(header)
        else:
            await self._parts.stream.drop(KIND, response_id)
        await self._parts.leases.dropped(response_id)
