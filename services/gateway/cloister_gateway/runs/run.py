"""One run: searches, builds the prompt, generates, and writes what happens as events.

The run belongs to a lease, not to a socket. It ends when the answer is complete, when someone cancels it, when
nobody has watched it for a while (background runs excepted), or when another gateway has taken it over.
"""

import asyncio
import time
from dataclasses import asdict

from cloister_common.errors import CloisterError
from cloister_common.logs import get_logger
from prometheus_client import Counter, Gauge
from redis.exceptions import RedisError

from cloister_gateway.bus.connection import Bus
from cloister_gateway.runs.lease import RENEW_SECONDS, Leases
from cloister_gateway.runs.records import OUTCOME, PROMPT, Outcome, RunError, TurnRequest, Usage
from cloister_gateway.runs.store import ResponseStore
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.runs.turn import Turn
from cloister_gateway.runs.unanswered import is_unanswered, unanswered_mark
from cloister_gateway.settings import ResponsesSettings
from cloister_gateway.storage import (
    ItemLog,
    KeyedObject,
    LogDamagedError,
    LogGoneError,
    LogLockedError,
    RecordGoneError,
)
from cloister_gateway.storage.client import REDIS_AWAY
from cloister_gateway.storage.layout import conversation_channel
from cloister_gateway.streams.commits import Commits
from cloister_gateway.streams.events import DeposedError, EventStream
from cloister_gateway.streams.feeds import Feed
from cloister_gateway.usage import Ending, Generation, Meter, Unmetered, Used
from cloister_gateway.wire.items import ResponseBody, with_results

__all__ = ["Run", "RunParts"]

log = get_logger(__name__)
_RUNNING = Gauge("cloister_runs", "Runs of this gateway now.")
_ENDED = Counter("cloister_runs_ended_total", "Runs by how they ended.", ["status"])

_ENDINGS: dict[str, Ending] = {"failed": "failed", "cancelled": "cancelled"}


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


class Run:
    """One run on this gateway.

    Args:
        keyed: The response with its key.
        conversation: The conversation the output goes to, if there is one.
        request: What was asked, as stored.
        body: The response as created.
        parts: What it works with.
        feed: Where watchers of this gateway read.
    """

    def __init__(
        self,
        keyed: KeyedObject,
        conversation: KeyedObject | None,
        request: TurnRequest,
        body: ResponseBody,
        parts: RunParts,
        feed: Feed,
    ) -> None:
        self.keyed = keyed
        self.conversation = conversation
        self.request = request
        self._parts = parts
        self._feed = feed
        self._cancelled = False
        self._settled = False
        self._given_up = False
        self._work: asyncio.Task[Outcome] | None = None
        self._transcript = Transcript(body)
        self._transcript.replay(feed.events)
        self._writer = parts.commits.writer(keyed, feed, self._transcript)
        self._transcript.on_event = self._writer.notice

    def cancel(self) -> None:
        """Aborts the generation; the response ends as ``cancelled``. Doing it twice is no error."""
        if not self._cancelled:
            self._cancelled = True
            if self._work is not None:
                self._work.cancel()

    def give_up(self) -> None:
        """Lets the response fail without more work, since its holders die of it."""
        self._given_up = True

    async def execute(self) -> None:
        """Runs to the end, or until this gateway is not the holder any more."""
        _RUNNING.inc()
        try:
            outcome = await self._recall()
            if not self._transcript.resumed:
                self._announce()
            async with asyncio.TaskGroup() as tasks:
                keeper = tasks.create_task(self._keep_lease(), name="lease")
                writer = tasks.create_task(self._writer.watch(), name="writer")
                if outcome is None:
                    self._work = tasks.create_task(self._perform(), name="work")
                    await asyncio.wait([self._work])
                    outcome = Outcome(status="cancelled") if self._cancelled else self._work.result()
                await self._finish(outcome)
                keeper.cancel()
                writer.cancel()
            keep_seconds = self._parts.settings.keep_stream_seconds
            await self._parts.leases.ended(self.keyed.id, keep_seconds=keep_seconds)
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
        finally:
            self._writer.close()
            _RUNNING.dec()

    def _settle(self, ending: Ending, usage: Usage) -> None:
        """Ends what was reserved for the response, where no other gateway will go on with it. Twice is no error."""
        if self._settled:
            return
        self._settled = True
        generation = Generation(
            self.keyed.id, self.keyed.key.tenant, self.request.key_id, self.request.model, "response"
        )
        used = Used(usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens)
        self._parts.meter.settle(generation, used, ending)

    async def _recall(self) -> Outcome | None:
        """How the work ended, if an earlier holder came so far and only the end is left to write."""
        if not self._transcript.resumed:
            return None
        outcome = await self._parts.store.read(self.keyed, OUTCOME)
        if outcome is not None:
            prompt = await self._parts.store.read(self.keyed, PROMPT)
            self._transcript.results = None if prompt is None else prompt.results
        return outcome

    def _announce(self) -> None:
        """The events that begin every response, before anything can go wrong or be cancelled."""
        self._transcript.lifecycle("response.created")
        if self.request.background:
            self._transcript.lifecycle("response.queued")
        self._transcript.lifecycle("response.in_progress", status="in_progress")

    async def _perform(self) -> Outcome:
        """The work, and how it ended. A failure of it ends the answer, not the run: the run still has to tell.

        While Redis is down or full nothing can be told: then the run ends, and whoever takes its lease goes on.
        """
        if self._given_up:
            message = "The server failed on this response several times and has given it up."
            return Outcome(status="failed", error=RunError(code="server_error", message=message))
        try:
            if self.conversation is not None:
                await self._parts.bus.publish(conversation_channel(self.conversation.id), self.keyed.id.encode())
            if self._cancelled or await self._parts.store.cancel_requested(self.keyed.id):
                self._cancelled = True
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
        """Closes the output, stores it in the conversation, and writes the last event with the response.

        Another gateway may have to do this again from any point. So what the end will be is written down first, and
        what is stored is in the stream before: if the stream refuses it, another holder has come further.
        """
        await self._writer.commit()
        if not await self._parts.leases.renew(self.keyed.id):
            raise DeposedError
        outcome = await self._parts.store.write_once(self.keyed, OUTCOME, self._transcript.complete(outcome))
        status = outcome.status
        self._transcript.close_output(failed=status == "failed", completed=status == "completed")
        await self._writer.commit()
        await self._store_output(status)
        event = {"completed": "response.completed", "failed": "response.failed"}.get(status, "response.incomplete")
        self._transcript.lifecycle(event, **outcome.changes())
        response, results = self._transcript.response, self._transcript.results
        fields = self._parts.store.finished_fields(self.keyed, response, results)
        await self._writer.commit(end=fields)
        self._settle(_ENDINGS.get(status, "completed"), outcome.usage or Usage())
        _ENDED.labels(status).inc()
        log.info("run_ended", response_id=self.keyed.id, status=status, **asdict(self._transcript.tokens))

    async def _store_output(self, status: str) -> None:
        """Adds the output to the conversation and sets its log free, once, however often it is tried."""
        if self.conversation is None:
            return
        try:
            output = with_results(self._transcript.output, self._transcript.results)
            if is_unanswered(status, output):
                output = [*output, unanswered_mark(self.request.input)]
            await self._parts.items.append(self.conversation, output, run=self.keyed.id)
        except LogGoneError:
            log.info("conversation_gone", response_id=self.keyed.id)
        except LogLockedError:
            # An earlier holder of this run came this far: the output is stored, and the log is no longer ours.
            log.info("conversation_moved_on", response_id=self.keyed.id)
        except LogDamagedError as error:
            # The answer is whole, and its record will be; the next turn is told that the conversation is not.
            log.error("conversation_damaged", response_id=self.keyed.id, exc_info=error)
            await self._parts.items.free(self.conversation.kind, self.conversation.id, self.keyed.id)

    async def _keep_lease(self) -> None:
        """Renews the lease; hears of a cancel or deletion whose message was lost; ends what nobody watches."""
        unwatched_since: float | None = None
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if not await self._parts.leases.renew(self.keyed.id):
                raise DeposedError
            if await self._parts.store.cancel_requested(self.keyed.id):
                self.cancel()
            watched = (
                self.request.background or self._feed.watchers > 0 or await self._parts.stream.is_watched(self.keyed.id)
            )
            if watched:
                unwatched_since = None
            elif unwatched_since is None:
                unwatched_since = time.monotonic()
            elif time.monotonic() - unwatched_since > self._parts.settings.unwatched_seconds:
                self.cancel()
