"""Starts runs, finds those whose gateway has died, and drops what is kept no longer."""

import asyncio
from collections.abc import Coroutine, Set
from typing import Any

from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from cloister_common.vault import VaultError

from cloister_gateway.admission import Admission
from cloister_gateway.bus.announcements import Announcements
from cloister_gateway.runs.acceptance import Accepted
from cloister_gateway.runs.keeper import Keeper
from cloister_gateway.runs.records import TurnRequest, Usage
from cloister_gateway.runs.run import Run, RunParts, ending_of, settle_response
from cloister_gateway.runs.store import Header
from cloister_gateway.runs.unanswered import unanswered_mark
from cloister_gateway.storage import CONVERSATION, KeyedObject, LogGoneError, LogLockedError, RecordGoneError
from cloister_gateway.storage.client import REDIS_AWAY
from cloister_gateway.streams.feeds import Hub
from cloister_gateway.usage import Ending, Generation, Used
from cloister_gateway.wire.items import ResponseBody

__all__ = ["Engine"]

log = get_logger(__name__)

_SWEEP_SECONDS = 1.0
_CANCEL = "run.cancel"
_MOST_ADOPTIONS = 32
"""In one sweep: the runs of a gateway that died come back over all gateways, and over seconds."""
_MOST_LISTED = 512
_LATE_SECONDS = 0.5
"""A gateway whose sweep wakes up so late has more to do than it can; of others' runs it takes one at a time."""
_MOST_TAKEOVERS = 10
"""A run that ends its gateways, by the memory it takes for example, must not go through all of them for ever."""


class Engine:
    """The runs of this gateway."""

    def __init__(
        self,
        parts: RunParts,
        *,
        admission: Admission,
        keeper: Keeper,
        hub: Hub,
        announcements: Announcements,
        supervisor: Supervisor,
    ) -> None:
        self._parts = parts
        self._admission = admission
        self._keeper = keeper
        self._hub = hub
        self._announcements = announcements
        self._supervisor = supervisor
        self._runs: dict[str, Run] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # Runs of this gateway that ended because Redis was away: nobody else looks for them while their lease lasts.
        self._interrupted: set[str] = set()
        self._draining = False

    @property
    def running(self) -> Set[str]:
        """The responses whose runs this gateway holds now."""
        return self._runs.keys() | self._tasks.keys()

    @property
    def projects(self) -> dict[str, str]:
        """The projects of the runs that go on here, by their ids."""
        return {name: run.keyed.key.tenant for name, run in self._runs.items()}

    def start(self) -> None:
        """Begins to hear of cancellations, and to look for runs that lost their gateway."""
        self._announcements.subscribe(_CANCEL, self._on_cancel)
        self._supervisor.loop("runs-sweep", self._sweep)

    async def begin(self, accepted: Accepted) -> None:
        """Starts the run of a turn that this gateway has just accepted. Returns when its feed can be watched."""
        conversation = None if accepted.conversation is None else accepted.conversation.keyed
        body = accepted.transcript.response
        await self._begin(accepted.keyed, conversation, accepted.request, body, accepted=accepted)

    async def _begin(
        self,
        keyed: KeyedObject,
        conversation: KeyedObject | None,
        request: TurnRequest,
        body: ResponseBody,
        *,
        accepted: Accepted | None = None,
        give_up: bool = False,
    ) -> None:
        """Starts a run whose lease this gateway holds, unless it runs here already: a process that stood still for
        longer than a lease finds what it has just accepted on the list of lost runs, and must not run it twice.

        Args:
            keyed: The response.
            conversation: The conversation that the output goes to.
            request: What was asked, as stored.
            body: The response as created.
            accepted: What acceptance made already.
            give_up: Only bring the run to its end, as failed.
        """
        if keyed.id in self._tasks:
            return
        opened = asyncio.Event()
        work = self._run(keyed, conversation, request, body, opened, accepted=accepted, give_up=give_up)
        self._tasks[keyed.id] = self._supervisor.spawn("run", work)
        await opened.wait()

    async def cancel(self, response_id: str) -> None:
        """Asks whichever gateway runs it to stop. The end is seen in the run's events."""
        await self._parts.store.request_cancel(response_id)
        await self._announcements.publish(_CANCEL, {"id": response_id})

    async def remove_those_of(self, tenant: str, conversation_id: str) -> None:
        """Removes what is stored of the runs of a conversation whose key was destroyed."""
        await self._parts.store.destroy_those_of(tenant, conversation_id)

    async def hand_over(self) -> None:
        """Stops this gateway's runs and lets others take them at once, when this process ends."""
        self._draining = True
        tasks = dict(self._tasks)
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        # A write of ours that is still under way would meet the first one of whoever goes on.
        await self._parts.commits.settled()
        try:
            await self._parts.leases.hand_over(list(tasks))
            await self._keeper.list_ended()
        except REDIS_AWAY as error:
            log.warning("runs_not_handed_over", error=type(error).__name__)

    async def _run(
        self,
        keyed: KeyedObject,
        conversation: KeyedObject | None,
        request: TurnRequest,
        body: ResponseBody,
        opened: asyncio.Event,
        *,
        accepted: Accepted | None,
        give_up: bool,
    ) -> None:
        run: Run | None = None
        try:
            events = None if accepted is None else accepted.events
            async with self._admission.counted(), self._hub.own(keyed, events) as feed:
                run = Run(keyed, conversation, request, body, self._parts, feed, accepted)
                self._runs[keyed.id] = run
                self._keeper.keep(run)
                if give_up:
                    run.give_up()
                opened.set()
                await run.execute()
        except* VaultError as errors:
            header = await self._parts.store.header(keyed.id)
            if header is not None:
                header = header._replace(conversation=conversation.id if conversation else "")
                await self._give_up(header, errors.exceptions[0])
            else:
                self._settle(keyed.key.tenant, keyed.id, "cancelled")
        except* REDIS_AWAY as errors:
            # Before the run could begin, or as it gave back what it had: `Run.execute` tells of all that lies between.
            log.warning("run_interrupted", response_id=keyed.id, error=type(errors.exceptions[0]).__name__)
            self._interrupted.add(keyed.id)
        finally:
            opened.set()
            if run is not None:
                self._keeper.let_go(run)
                if run.interrupted:
                    self._interrupted.add(keyed.id)
                if run.ended:
                    self._keeper.note_ended(run)
            self._runs.pop(keyed.id, None)
            self._tasks.pop(keyed.id, None)

    def _on_cancel(self, payload: dict[str, Any]) -> None:
        run = self._runs.get(payload["id"])
        if run is not None:
            run.cancel()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._supervisor.stopping.is_set():
            most = 1 if loop.time() - due > _LATE_SECONDS else _MOST_ADOPTIONS
            try:
                listed = await self._parts.leases.abandoned(_MOST_LISTED)
                free = [run for run in dict.fromkeys([*self._interrupted, *listed]) if run not in self._tasks]
                for response_id in free[:most]:
                    if not self._draining:
                        await self._guarded(response_id, self._adopt(response_id))
                for response_id in await self._parts.leases.due():
                    await self._guarded(response_id, self._drop(response_id))
            except REDIS_AWAY as error:
                log.warning("runs_sweep_failed", error=type(error).__name__)
            due = loop.time() + _SWEEP_SECONDS
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _guarded(self, response_id: str, work: Coroutine[Any, Any, None]) -> None:
        """One run that cannot be read must not keep the others from being taken over, nor one whose slot is away."""
        try:
            await work
        except REDIS_AWAY as error:
            log.warning("runs_sweep_failed", response_id=response_id, error=type(error).__name__)
        except Exception:
            log.exception("run_sweep_failed", response_id=response_id)

    async def _adopt(self, response_id: str) -> None:
        """Takes a run over whose holder let its lease go, or that Redis interrupted here."""
        own = response_id in self._interrupted
        self._interrupted.discard(response_id)
        try:
            if await self._parts.leases.take(response_id):
                await self._go_on(response_id, own=own)
        except REDIS_AWAY:
            # With the next sweep, and not when the lease is over that may just have been taken.
            self._interrupted.add(response_id)
            raise

    async def _go_on(self, response_id: str, *, own: bool) -> None:
        """Goes on with a run whose lease was just taken; ``own`` if it is one that Redis interrupted here."""
        header = await self._header(response_id)
        if header is None:
            await self._parts.leases.release(response_id)
            return
        if header.done:
            await self._ended(response_id)
            await self._settle_ended(header)
            return
        if header.conversation and not await self._was_accepted(header):
            # The gateway died before the input was in the conversation: nobody was told that it was taken.
            await self._parts.store.destroy(header)
            await self._parts.leases.release(response_id)
            self._settle(header.tenant, response_id, "cancelled")
            return
        try:
            keyed, request, body = await self._stored(header)
        except VaultError as error:
            await self._give_up(header, error)
            return
        except RecordGoneError:
            await self._parts.leases.release(response_id)
            self._settle(header.tenant, response_id, "cancelled")
            return
        conversation = KeyedObject(CONVERSATION, header.conversation, keyed.key) if header.conversation else None
        # (An interruption by Redis is no fault of the run.)
        takeovers = 0 if own else await self._parts.store.count_takeover(response_id)
        log.info("run_adopted", response_id=response_id, takeovers=takeovers)
        await self._begin(keyed, conversation, request, body, give_up=takeovers > _MOST_TAKEOVERS)

    async def _stored(self, header: Header) -> tuple[KeyedObject, TurnRequest, ResponseBody]:
        """What is needed to run a response again. Raises `VaultError` if its record or key does not open."""
        keyed = await self._parts.store.keyed(header)
        if keyed is None:
            raise VaultError
        request, body = await self._parts.store.turn(keyed)
        return keyed, request, body

    async def _header(self, response_id: str) -> Header | None:
        """What the record says, or None if there is none: one that Redis cannot read cannot be run either."""
        try:
            return await self._parts.store.header(response_id)
        except VaultError as error:
            log.error("run_unreadable", response_id=response_id, exc_info=error)
            return None

    async def _give_up(self, header: Header, error: Exception) -> None:
        """Ends a run that nobody can finish, since what is stored of it does not open."""
        log.error("run_unreadable", response_id=header.id, exc_info=error)
        if header.conversation:
            await self._leave_conversation(header)
        await self._parts.store.give_up(header.id)
        await self._ended(header.id)
        self._settle(header.tenant, header.id, "failed")

    def _settle(self, tenant: str, response_id: str, ending: Ending) -> None:
        """Ends what was reserved for a response that never was a `Run`, or is one no more."""
        self._parts.meter.settle(Generation(response_id, tenant, "", "", "response"), Used(), ending)

    async def _settle_ended(self, header: Header) -> None:
        """Ends what was reserved for a run whose end was written, where its holder died before it could, or did not
        hear that it was. (It may have come to it all the same: the last settlement counts.)"""
        try:
            keyed, request, body = await self._stored(header)
            usage = Usage.model_validate(body.get("usage") or {})
            settle_response(
                self._parts.meter, keyed, request, ending_of(body["status"]), usage, begun=body["created_at"]
            )
        except (VaultError, RecordGoneError):
            self._settle(header.tenant, header.id, "failed")

    async def _leave_conversation(self, header: Header) -> None:
        """Sets the conversation free; its turn got no answer, and the log says so if what was asked can be read."""
        try:
            keyed = await self._parts.store.keyed(header)
            if keyed is not None:
                request = await self._parts.store.request(keyed)
                conversation = KeyedObject(CONVERSATION, header.conversation, keyed.key)
                await self._parts.items.append(conversation, [unanswered_mark(request.input)], run=header.id)
        except (VaultError, RecordGoneError, LogGoneError, LogLockedError) as error:
            log.warning("unanswered_turn_not_marked", response_id=header.id, error=type(error).__name__)
        await self._parts.items.free(CONVERSATION, header.conversation, header.id)

    async def _ended(self, response_id: str) -> None:
        await self._parts.leases.ended(response_id, keep_seconds=self._parts.settings.keep_stream_seconds)

    async def _was_accepted(self, header: Header) -> bool:
        """Whether the input came into the conversation: then the run holds it, or has begun to write."""
        holder = await self._parts.items.holder(CONVERSATION, header.conversation)
        return holder == header.id or await self._parts.stream.exists(header.id)

    async def _drop(self, response_id: str) -> None:
        """Drops an ended run's stream and what its holders needed, and all of the record if it was not to be stored."""
        header = await self._header(response_id)
        if header is not None and header.whole and not header.stored:
            await self._parts.store.destroy(header)
        else:
            await self._parts.stream.drop(response_id)
            if header is not None:
                await self._parts.store.settle(response_id)
        await self._parts.leases.dropped(response_id)
