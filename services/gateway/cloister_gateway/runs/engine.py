"""Starts runs, finds those whose gateway has died, and drops what is kept no longer."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from cloister_common.vault import VaultError
from redis.asyncio import Redis

from cloister_gateway.bus.announcements import Control
from cloister_gateway.runs.run import Run, RunParts
from cloister_gateway.runs.store import KIND, Header
from cloister_gateway.storage import Owner, record_key
from cloister_gateway.storage.client import REDIS_DOWN
from cloister_gateway.streams.feeds import Hub
from cloister_gateway.usage import Generation, Outcome, Used

__all__ = ["Engine"]

log = get_logger(__name__)

_SWEEP_SECONDS = 1.0
_CANCEL = "run.cancel"
_MOST_TAKEOVERS = 10
"""A run that ends its gateways, by the memory it takes for example, must not go through all of them for ever."""


class Engine:
    """The runs of this gateway."""

    def __init__(self, parts: RunParts, *, hub: Hub, control: Control, supervisor: Supervisor, redis: Redis) -> None:
        self._parts = parts
        self._hub = hub
        self._control = control
        self._supervisor = supervisor
        self._redis = redis
        self._runs: dict[str, Run] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._draining = False
        control.subscribe(_CANCEL, self._on_cancel)
        supervisor.loop("runs-sweep", self._sweep)

    async def start(
        self,
        owner: Owner,
        conversation: Owner | None,
        request: dict[str, Any],
        body: dict[str, Any],
        *,
        give_up: bool = False,
    ) -> None:
        """Starts a run whose lease this gateway holds. Returns when its feed can be watched.

        Args:
            owner: The response.
            conversation: The conversation that the output goes to.
            request: What was asked, as stored.
            body: The response as created.
            give_up: Only bring the run to its end, as failed.
        """
        opened = asyncio.Event()
        work = self._run(owner, conversation, request, body, opened, give_up=give_up)
        self._tasks[owner.id] = self._supervisor.spawn("run", work)
        await opened.wait()

    async def cancel(self, response_id: str) -> None:
        """Asks whichever gateway runs it to stop. The end is seen in the run's events."""
        await self._parts.store.request_cancel(response_id)
        await self._control.publish(_CANCEL, {"id": response_id})

    async def hand_over(self) -> None:
        """Stops this gateway's runs and lets others take them at once, when this process ends."""
        self._draining = True
        tasks = dict(self._tasks)
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        try:
            for response_id in tasks:
                await self._parts.leases.hand_over(KIND, response_id)
        except REDIS_DOWN as error:
            log.warning("runs_not_handed_over", error=type(error).__name__)

    async def _run(
        self,
        owner: Owner,
        conversation: Owner | None,
        request: dict[str, Any],
        body: dict[str, Any],
        opened: asyncio.Event,
        *,
        give_up: bool,
    ) -> None:
        try:
            async with self._hub.own(owner) as feed:
                run = Run(owner, conversation, request, body, self._parts, feed)
                self._runs[owner.id] = run
                if give_up:
                    run.give_up()
                opened.set()
                await run.execute()
        except* VaultError as errors:
            await self._give_up(
                owner.key.tenant, owner.id, conversation.id if conversation else "", errors.exceptions[0]
            )
        finally:
            opened.set()
            self._runs.pop(owner.id, None)
            self._tasks.pop(owner.id, None)

    def _on_cancel(self, payload: dict[str, Any]) -> None:
        run = self._runs.get(payload["id"])
        if run is not None:
            run.cancel()

    async def _sweep(self) -> None:
        while not self._supervisor.stopping.is_set():
            try:
                for response_id in await self._parts.leases.abandoned():
                    if response_id not in self._tasks and not self._draining:
                        await self._guarded(response_id, self._adopt(response_id))
                for response_id in await self._parts.leases.due():
                    await self._guarded(response_id, self._drop(response_id))
            except REDIS_DOWN as error:
                log.warning("runs_sweep_failed", error=type(error).__name__)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _guarded(self, response_id: str, work: Coroutine[Any, Any, None]) -> None:
        """One run that cannot be read must not keep the others from being taken over."""
        try:
            await work
        except REDIS_DOWN:
            raise
        except Exception:
            log.exception("run_sweep_failed", response_id=response_id)

    async def _adopt(self, response_id: str) -> None:
        """Takes a run over whose owner let its lease go."""
        if not await self._parts.leases.take(KIND, response_id):
            return
        header = await self._parts.store.header(response_id)
        if header is None:
            await self._parts.leases.release(KIND, response_id)
            return
        if header.done:
            await self._ended(response_id)
            return
        if header.conversation and not await self._was_accepted(header):
            # The gateway died before the input was in the conversation: nobody was told that it was taken.
            await self._parts.store.destroy(header)
            await self._parts.leases.release(KIND, response_id)
            self._settle(header.tenant, response_id, "cancelled")
            return
        try:
            owner, request, body = await self._stored(header)
        except VaultError as error:
            await self._give_up(header.tenant, response_id, header.conversation, error)
            return
        conversation = Owner("conv", header.conversation, owner.key) if header.conversation else None
        takeovers = await self._parts.store.count_takeover(response_id)
        log.info("run_adopted", response_id=response_id, takeovers=takeovers)
        await self.start(owner, conversation, request, body, give_up=takeovers > _MOST_TAKEOVERS)

    async def _stored(self, header: Header) -> tuple[Owner, dict[str, Any], dict[str, Any]]:
        """What is needed to run a response again. Raises `VaultError` if its record or key does not open."""
        owner = await self._parts.store.owner(header)
        if owner is None:
            raise VaultError
        return owner, await self._parts.store.read(owner, "request"), await self._parts.store.read(owner, "body")

    async def _give_up(self, tenant: str, response_id: str, conversation_id: str, error: Exception) -> None:
        """Ends a run that nobody can finish, since what is stored of it does not open."""
        log.error("run_unreadable", response_id=response_id, exc_info=error)
        if conversation_id:
            await self._parts.items.free("conv", conversation_id, response_id)
        await self._parts.store.give_up(response_id)
        await self._ended(response_id)
        self._settle(tenant, response_id, "failed")

    def _settle(self, tenant: str, response_id: str, outcome: Outcome) -> None:
        """Ends what was reserved for a response that never was a `Run`, or is one no more."""
        self._parts.meter.settle(Generation(response_id, tenant, "", "", "response"), Used(), outcome)

    async def _ended(self, response_id: str) -> None:
        await self._parts.leases.ended(KIND, response_id, keep_seconds=self._parts.settings.keep_stream_seconds)

    async def _was_accepted(self, header: Header) -> bool:
        holder: Any = await self._redis.hget(record_key("conv", header.conversation), "run")
        return bool(holder is not None and holder.decode() == header.id) or bool(
            await self._redis.exists(f"{record_key(KIND, header.id)}:events")
        )

    async def _drop(self, response_id: str) -> None:
        """Drops an ended run's stream and what its owners needed, and all of the record if it was not to be stored."""
        header = await self._parts.store.header(response_id)
        if header is not None and not header.stored:
            await self._parts.store.destroy(header)
        else:
            await self._parts.stream.drop(KIND, response_id)
            await self._parts.store.settle(response_id)
        await self._parts.leases.dropped(response_id)
