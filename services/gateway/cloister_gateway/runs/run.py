"""One run: searches, builds the prompt, generates, and writes what happens as events.

The run belongs to a lease, not to a socket. It ends when the answer is complete, when someone cancels it, when
nobody has watched it for a while (background runs excepted), or when another gateway has taken it over.
"""

import asyncio
import contextlib
import logging
import time

from cloister_common.errors import CloisterError
from cloister_common.logs import get_logger, log_plainly
from prometheus_client import Counter, Gauge
from redis.exceptions import RedisError

from cloister_gateway.bus.connection import Bus
from cloister_gateway.models.served import Served
from cloister_gateway.models.work import WorkClass
from cloister_gateway.runs.acceptance import Accepted, Log
from cloister_gateway.runs.ending import Endings
from cloister_gateway.runs.lease import Leases
from cloister_gateway.runs.records import OUTCOME, Outcome, RunError, TurnRequest, Usage
from cloister_gateway.runs.store import ResponseStore
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.runs.turn import Turn
from cloister_gateway.runs.unanswered import is_unanswered, unanswered_mark
from cloister_gateway.settings import ResponsesSettings
from cloister_gateway.storage import (
    ItemLog,
    KeyedObject,
    RecordGoneError,
)
from cloister_gateway.storage.client import REDIS_AWAY
from cloister_gateway.storage.layout import conversation_channel
from cloister_gateway.streams.commits import Commits
from cloister_gateway.streams.events import DeposedError, EventStream
from cloister_gateway.streams.feeds import Feed
from cloister_gateway.usage import Ending, Generation, InputSplit, Meter, Unmetered, Used
from cloister_gateway.wire.items import ResponseBody, with_results

__all__ = ["Run", "RunParts", "ending_of", "settle_response"]

log = get_logger(__name__)
_run_log = logging.getLogger(__name__)
_RUNNING = Gauge("cloister_runs", "Runs of this gateway now.")
_ENDED = Counter("cloister_runs_ended_total", "Runs by how they ended.", ["status"])

_ENDINGS: dict[str, Ending] = {"failed": "failed", "cancelled": "cancelled"}


def ending_of(status: str) -> Ending:
    """How a response that has ended with ``status`` is settled."""
    return _ENDINGS.get(status, "completed")


def settle_response(
    meter: Meter,
    keyed: KeyedObject,
    request: TurnRequest,
    ending: Ending,
    usage: Usage,
    *,
    begun: int,
    served: Served | None = None,
) -> None:
    """Ends what was reserved for a response that was ``begun`` then, with what it used, and how it came if that is
    known."""
    batch = request.work_class is WorkClass.BATCH
    generation = Generation(
        keyed.id, keyed.key.tenant, request.key_id, request.model, "response", request.user, begun, batch
    )
    used = Used(usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens)
    used.reasoning = usage.output_tokens_details.reasoning_tokens
    used.served = served or used.served
    parts = usage.cloister
    used.split = None if parts is None else InputSplit(**parts.model_dump())
    meter.settle(generation, used, ending)


class RunParts:
    """What every run of this gateway uses."""

    def __init__(
        self,
        *,
        stream: EventStream,
        commits: Commits,
        leases: Leases,
        store: ResponseStore,
        items: ItemLog,
        turn: Turn,
        settings: ResponsesSettings,
        bus: Bus,
        meter: Meter = Unmetered(),
    ) -> None:
        self.bus = bus
        self.meter = meter
        self.stream = stream
        self.commits = commits
        self.leases = leases
        self.store = store
        self.items = items
        self.turn = turn
        self.settings = settings
        self.endings = Endings(store, items, leases)


class Run:
    """One run on this gateway.

    Args:
        keyed: The response with its key.
        conversation: The conversation the output goes to, if there is one.
        request: What was asked, as stored.
        body: The response as created.
        parts: What it works with.
        feed: Where watchers of this gateway read.
        accepted: What acceptance made already, where this gateway has just accepted it.

    Attributes:
        ended: Whether its end was written here.
    """

    def __init__(
        self,
        keyed: KeyedObject,
        conversation: KeyedObject | None,
        request: TurnRequest,
        body: ResponseBody,
        parts: RunParts,
        feed: Feed,
        accepted: Accepted | None = None,
    ) -> None:
        self.keyed = keyed
        self.conversation = conversation
        self.request = request
        self._parts = parts
        self._feed = feed
        self.ended = False
        self._cancelled = False
        self._settled = False
        self._given_up = False
        self.interrupted = False
        self._work: asyncio.Task[Outcome] | None = None
        self._lost: Exception | None = None
        self._unfollowed_since: float | None = None
        self._head: bytes | None = None
        self._fresh = accepted is not None
        if accepted is not None:
            self._transcript = accepted.transcript
            if accepted.conversation is not None:
                self._head = accepted.conversation.head
        else:
            self._transcript = Transcript(body)
            self._transcript.replay(feed.events)
        self._writer = parts.commits.writer(keyed, feed, self._transcript)
        self._transcript.on_event = self._writer.notice

    @property
    def id(self) -> str:
        """The response's."""
        return self.keyed.id

    @property
    def is_followed_here(self) -> bool:
        """Whether it goes on without a look at who follows it on other gateways."""
        if not (self.request.background or self._feed.watchers > 0):
            return False
        self._unfollowed_since = None
        return True

    def cancel(self) -> None:
        """Aborts the generation; the response ends as ``cancelled``. Doing it twice is no error."""
        if not self._cancelled:
            self._cancelled = True
            if self._work is not None:
                self._work.cancel()

    def lose(self, error: Exception) -> None:
        """Stops: the run is this gateway's no more, for the reason ``error``."""
        self._lost = error
        if self._work is not None:
            self._work.cancel()

    def note_followed(self, followed: bool) -> None:
        """Whether anybody follows it on any gateway. It ends as cancelled when nobody has for a while."""
        if followed:
            self._unfollowed_since = None
        elif self._unfollowed_since is None:
            self._unfollowed_since = time.monotonic()
        elif time.monotonic() - self._unfollowed_since > self._parts.settings.unwatched_seconds:
            self.cancel()

    def give_up(self) -> None:
        """Lets the response fail without more work, since its holders die of it."""
        self._given_up = True

    async def execute(self) -> None:
        """Runs to the end, or until this gateway is not the holder any more."""
        if self._feed.final:
            log.info("run_deposed", response_id=self.keyed.id)
            return
        _RUNNING.inc()
        try:
            outcome = await self._recall()
            if not self._transcript.resumed and not self._fresh:
                self._transcript.announce(background=self.request.background)
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._writer.watch(), name="writer")
                if self._fresh and self.conversation is not None:
                    tasks.create_task(self._tell(self.conversation), name="word")
                if outcome is None:
                    self._work = tasks.create_task(self._perform(), name="work")
                    await asyncio.wait([self._work])
                    if self._lost is not None:
                        raise self._lost
                    worked = Outcome(status="cancelled") if self._cancelled else self._work.result()
                    outcome = self._transcript.complete(worked)
                await self._finish(outcome)
                writer.cancel()
            self.ended = True
        except* DeposedError:
            log.info("run_deposed", response_id=self.keyed.id)
        except* RecordGoneError:
            log.info("run_gone", response_id=self.keyed.id)
            if self.conversation is not None:
                await self._parts.items.free(self.conversation.kind, self.conversation.id, self.keyed.id)
            await self._parts.leases.release(self.keyed.id)
            self._settle("cancelled", self._transcript.tokens.usage())
        except* REDIS_AWAY as errors:
            log.warning("run_interrupted", response_id=self.keyed.id, error=type(errors.exceptions[0]).__name__)
            self.interrupted = True
        finally:
            self._writer.close()
            _RUNNING.dec()

    def _settle(self, ending: Ending, usage: Usage) -> None:
        """Ends what was reserved for the response, where no other gateway will go on with it. Twice is no error."""
        if self._settled:
            return
        self._settled = True
        begun = self._transcript.response.get("created_at", 0)
        settle_response(
            self._parts.meter,
            self.keyed,
            self.request,
            ending,
            usage,
            begun=begun,
            served=self._transcript.served,
        )

    async def _tell(self, conversation: KeyedObject) -> None:
        """Tells the conversation's followers that a run has begun, beside its work. They are told by whoever runs it
        and not by the write that accepts it: a socket that asks for a turn must know its id before it hears of it."""
        bus = self._parts.bus
        channel = conversation_channel(conversation.id, sharded=bus.sharded)
        # Whoever follows it looks anew when the bus is there again.
        with contextlib.suppress(*REDIS_AWAY):
            await bus.publish(channel, self.keyed.id.encode())

    async def _recall(self) -> Outcome | None:
        """How the work ended, if an earlier holder came so far and only the end is left to write."""
        if not self._transcript.resumed:
            return None
        outcome = await self._parts.store.read(self.keyed, OUTCOME)
        if outcome is not None:
            self._transcript.results = await self._parts.store.search_results(self.keyed)
        return outcome

    async def _perform(self) -> Outcome:
        """The work, and how it ended. A failure of it ends the answer, not the run: the run still has to tell.

        While Redis is down or full nothing can be told: then the run ends, and whoever takes its lease goes on.
        """
        if self._given_up:
            message = "The server failed on this response several times and has given it up."
            return Outcome(status="failed", error=RunError(code="server_error", message=message))
        try:
            # Somebody may have asked before there was a run here to tell; of a new one the keeper hears soon enough.
            if not self._fresh and await self._parts.store.cancel_requested(self.keyed.id):
                self._cancelled = True
            if self._cancelled:
                return Outcome(status="cancelled")
            return await self._parts.turn.perform(self.keyed, self.request, self._transcript)
        except Exception as error:
            # (An OSError alone may be another machine's.)
            if isinstance(error, RecordGoneError) or (isinstance(error, RedisError) and isinstance(error, REDIS_AWAY)):
                raise
            return Outcome(status="failed", error=self._error_told(error))

    def _error_told(self, error: Exception) -> RunError:
        if isinstance(error, CloisterError):
            status = type(error).status
            code = "server_error" if status >= 500 else "rate_limit_exceeded" if status == 429 else "invalid_prompt"
            return RunError(code=code, message=error.message)
        log.error("run_failed", response_id=self.keyed.id, exc_info=error)
        message = "The server had an error while it answered. Try again; the operator's log has it."
        return RunError(code="server_error", message=message)

    async def _finish(self, outcome: Outcome) -> None:
        """Closes the output, and writes the end in one step: see `cloister_gateway.runs.ending`."""
        status, transcript = outcome.status, self._transcript
        # What comes from here on is written here, in one step.
        await self._writer.leave()
        transcript.close_output(failed=status == "failed", completed=status == "completed")
        if status in {"completed", "incomplete"}:
            transcript.show_calls()
        output = with_results(transcript.output, transcript.results)
        if is_unanswered(status, output):
            output = [*output, unanswered_mark(self.request.input)]
        event = {"completed": "response.completed", "failed": "response.failed"}.get(status, "response.incomplete")
        transcript.lifecycle(event, **outcome.changes())
        fields = self._parts.store.finished_fields(self.keyed, transcript.response, transcript.results)
        conversation = None if self.conversation is None else Log(self.conversation, self._head)
        first, events = transcript.take_pending()
        await self._parts.endings.write(self.keyed, conversation, output, first, events, fields)
        self._feed.extend(first, events, final=True)
        self._settle(ending_of(status), outcome.usage or Usage())
        _ENDED.labels(status).inc()
        counted = {name: getattr(transcript.tokens, name) for name in transcript.tokens.__slots__ if name != "layout"}
        log_plainly(_run_log, "run_ended", {"response_id": self.keyed.id, "status": status, **counted})
