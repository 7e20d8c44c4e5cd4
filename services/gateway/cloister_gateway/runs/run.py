"""One run: searches, builds the prompt, generates, and writes what happens as events.

The run belongs to a lease, not to a socket. It ends when the answer is complete, when someone cancels it, when
nobody has watched it for a while (background runs excepted), or when another gateway has taken it over.
"""

import asyncio
import contextlib
import time
from typing import Any, Protocol

from cloister_common.errors import CloisterError
from cloister_common.logs import get_logger
from prometheus_client import Counter, Gauge, Histogram
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cloister_gateway.bus.connection import Bus
from cloister_gateway.responses.shapes import with_results
from cloister_gateway.runs.lease import RENEW_SECONDS, Leases
from cloister_gateway.runs.store import KIND, ResponseStore
from cloister_gateway.runs.transcript import Assembler
from cloister_gateway.settings import ResponsesSettings
from cloister_gateway.storage import ItemLog, LogDamagedError, LogGoneError, LogLockedError, Owner, RecordGoneError
from cloister_gateway.storage.client import REDIS_DOWN
from cloister_gateway.streams.events import DeposedError, EventStream
from cloister_gateway.streams.feeds import Feed
from cloister_gateway.usage import Generation, Meter, Outcome, Unmetered, Used

__all__ = ["Run", "RunParts", "Work", "conversation_channel"]

log = get_logger(__name__)
_RUNNING = Gauge("cloister_runs", "Runs of this gateway now.")
_ENDED = Counter("cloister_runs_ended_total", "Runs by how they ended.", ["status"])
_FIRST_TOKEN = Histogram(
    "cloister_run_first_token_seconds",
    "From the start of a run to its first token.",
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)

_OUTCOMES: dict[str, Outcome] = {"failed": "failed", "cancelled": "cancelled"}


def conversation_channel(conversation_id: str) -> str:
    """The pub/sub channel that says which run has begun in a conversation."""
    return f"conversation:{conversation_id}"


class Work(Protocol):
    """What a run does; `cloister_gateway.runs.turn` is the one there is."""

    async def perform(self, run: "Run") -> None:
        """Emits the events of the turn on ``run.assembler``, calling ``run.wake`` for the writer."""
        ...


class RunParts:
    """What every run of this gateway uses."""

    def __init__(
        self,
        *,
        stream: EventStream,
        leases: Leases,
        store: ResponseStore,
        items: ItemLog,
        work: Work,
        settings: ResponsesSettings,
        bus: Bus,
        meter: Meter = Unmetered(),
    ) -> None:
        self.bus = bus
        self.meter = meter
        self.stream = stream
        self.leases = leases
        self.store = store
        self.items = items
        self.work = work
        self.settings = settings


class Run:
    """One run on this gateway.

    Args:
        owner: The response with its key.
        conversation: The conversation the output goes to, if there is one.
        request: What was asked, as stored.
        body: The response as created.
        parts: What it works with.
        feed: Where watchers of this gateway read.
    """

    def __init__(
        self,
        owner: Owner,
        conversation: Owner | None,
        request: dict[str, Any],
        body: dict[str, Any],
        parts: RunParts,
        feed: Feed,
    ) -> None:
        self.owner = owner
        self.conversation = conversation
        self.request = request
        self.usage: dict[str, int] = {}
        self.results: list[dict[str, Any]] | None = None
        self.finish_reason: str | None = None
        self._parts = parts
        self._feed = feed
        self._dirty = asyncio.Event()
        self._cancelled = False
        self._settled = False
        self._error: Exception | None = None
        self._stopping = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._started = time.monotonic()
        self._first_token_seen = False
        self.assembler = Assembler(body)
        self.assembler.replay(feed.events)
        self.resumed = self.assembler.next_number > 0

    def cancel(self) -> None:
        """Aborts the generation; the response ends as ``cancelled``. Doing it twice is no error."""
        if not self._cancelled:
            self._cancelled = True
            if self._work is not None:
                self._work.cancel()

    def give_up(self) -> None:
        """Lets the response fail without more work, since its owners die of it."""
        self._error = CloisterError("The server failed on this response several times and has given it up.")

    def wake(self, *, token: bool = False) -> None:
        """Says that there are events to write."""
        if token and not self._first_token_seen:
            self._first_token_seen = True
            _FIRST_TOKEN.observe(time.monotonic() - self._started)
        self._dirty.set()

    async def execute(self) -> None:
        """Runs to the end, or until this gateway is not the owner any more."""
        _RUNNING.inc()
        try:
            outcome = await self._parts.store.read(self.owner, "outcome") if self.resumed else None
            if outcome is not None:
                self.results = (await self._parts.store.read(self.owner, "prompt") or {}).get("results")
            if not self.resumed:
                self._announce()
            async with asyncio.TaskGroup() as tasks:
                keeper = tasks.create_task(self._keep_lease(), name="lease")
                writer = tasks.create_task(self._write_loop(), name="writer")
                if outcome is None:
                    self._work = tasks.create_task(self._perform(), name="work")
                    await asyncio.wait([self._work])
                    outcome = self._outcome()
                self._stopping.set()
                self._dirty.set()
                await writer
                await self._finish(outcome)
                keeper.cancel()
            keep_seconds = self._parts.settings.keep_stream_seconds
            await self._parts.leases.ended(KIND, self.owner.id, keep_seconds=keep_seconds)
        except* DeposedError:
            log.info("run_deposed", response_id=self.owner.id)
        except* RecordGoneError:
            log.info("run_gone", response_id=self.owner.id)
            if self.conversation is not None:
                await self._parts.items.free(self.conversation.kind, self.conversation.id, self.owner.id)
            await self._parts.leases.release(KIND, self.owner.id)
            self.settle("cancelled")
        except* REDIS_DOWN as errors:
            log.warning("run_interrupted", response_id=self.owner.id, error=type(errors.exceptions[0]).__name__)
        finally:
            _RUNNING.dec()

    def settle(self, outcome: Outcome) -> None:
        """Ends what was reserved for the response, where no other gateway will go on with it. Twice is no error."""
        if self._settled:
            return
        self._settled = True
        key_id, model = self.request.get("key", ""), self.request.get("model", "")
        generation = Generation(self.owner.id, self.owner.key.tenant, key_id, model, "response")
        said = self.usage
        used = Used(said.get("prompt", 0), said.get("cached", 0), said.get("output", 0))
        self._parts.meter.settle(generation, used, outcome)

    def _announce(self) -> None:
        """The events that begin every response, before anything can go wrong or be cancelled."""
        self.assembler.lifecycle("response.created")
        if self.request["background"]:
            self.assembler.lifecycle("response.queued")
        self.assembler.lifecycle("response.in_progress", status="in_progress")
        self.wake()

    async def _perform(self) -> None:
        """The work. A failure of it ends the answer, not the run: the run still has to tell.

        While Redis is down nothing can be told: then the run ends, and whoever takes its lease goes on.
        """
        try:
            if self._error is not None:
                return
            if self.conversation is not None:
                await self._parts.bus.publish(conversation_channel(self.conversation.id), self.owner.id.encode())
            if self._cancelled or await self._parts.store.cancel_requested(self.owner.id):
                self._cancelled = True
                return
            await self._parts.work.perform(self)
        except (RedisConnectionError, RedisTimeoutError, RecordGoneError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, `_outcome` turns it into the response's error
            self._error = error

    def _outcome(self) -> dict[str, Any]:
        """How the work ended, as changes of the response."""
        if self._cancelled:
            return {"status": "cancelled"}
        error = self._error
        if isinstance(error, CloisterError):
            status = type(error).status
            code = "server_error" if status >= 500 else "rate_limit_exceeded" if status == 429 else "invalid_prompt"
            return {"status": "failed", "error": {"code": code, "message": error.message}}
        if error is not None:
            log.error("run_failed", response_id=self.owner.id, exc_info=error)
            message = "The server had an error while it answered. Try again; the operator's log has it."
            return {"status": "failed", "error": {"code": "server_error", "message": message}}
        if self.finish_reason == "length":
            return {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        return {"status": "completed", "completed_at": int(time.time())}

    async def _finish(self, outcome: dict[str, Any]) -> None:
        """Closes the output, stores it in the conversation, and writes the last event with the response.

        Another gateway may have to do this again from any point. So what the end will be is written down first, and
        what is stored is in the stream before: if the stream refuses it, another owner has come further.
        """
        await self._flush()
        if not await self._parts.leases.renew(KIND, self.owner.id):
            raise DeposedError
        said = self.assembler.response
        kept = {name: said.get(name) for name in ("truncation_details", "citation_details")} | {"usage": self._usage()}
        outcome = await self._parts.store.write_once(self.owner, "outcome", {**kept, **outcome})
        status = outcome["status"]
        self.assembler.close_output(failed=status == "failed", completed=status == "completed")
        await self._flush()
        await self._store_output()
        event = {"completed": "response.completed", "failed": "response.failed"}.get(status, "response.incomplete")
        self.assembler.lifecycle(event, **outcome)
        fields = self._parts.store.finished_fields(self.owner, self.assembler.response, self.results)
        await self._flush(final=True, fields=fields)
        self.settle(_OUTCOMES.get(status, "completed"))
        _ENDED.labels(status).inc()
        log.info("run_ended", response_id=self.owner.id, status=status, **self.usage)

    async def _store_output(self) -> None:
        """Adds the output to the conversation and sets its log free, once, however often it is tried."""
        if self.conversation is None:
            return
        try:
            output = with_results(self.assembler.output, self.results)
            await self._parts.items.append(self.conversation, output, run=self.owner.id)
        except LogGoneError:
            log.info("conversation_gone", response_id=self.owner.id)
        except LogLockedError:
            # An earlier owner of this run came this far: the output is stored, and the log is no longer ours.
            log.info("conversation_moved_on", response_id=self.owner.id)
        except LogDamagedError as error:
            # The answer is whole, and its record will be; the next turn is told that the conversation is not.
            log.error("conversation_damaged", response_id=self.owner.id, exc_info=error)
            await self._parts.items.free(self.conversation.kind, self.conversation.id, self.owner.id)

    def _usage(self) -> dict[str, Any]:
        prompt, output = self.usage.get("prompt", 0), self.usage.get("output", 0)
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": self.usage.get("cached", 0), "cache_write_tokens": 0},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + output,
        }

    async def _write_loop(self) -> None:
        """Writes what is pending: the first event at once, later ones joined over a short time.

        It is never cancelled in the middle of a write, whose outcome would be unknown.
        """
        while not self._stopping.is_set():
            await self._dirty.wait()
            self._dirty.clear()
            await self._flush()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._parts.settings.flush_seconds):
                    await self._stopping.wait()

    async def _flush(self, *, final: bool = False, fields: dict[str, bytes] | None = None) -> None:
        first, events = self.assembler.take_pending()
        if not events:
            return
        await self._parts.stream.append(self.owner, first, events, final=final, fields=fields)
        self._feed.extend(first, events, final=final)

    async def _keep_lease(self) -> None:
        """Renews the lease; hears of a cancel or deletion whose message was lost; ends what nobody watches."""
        unwatched_since: float | None = None
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if not await self._parts.leases.renew(KIND, self.owner.id):
                raise DeposedError
            if await self._parts.store.cancel_requested(self.owner.id):
                self.cancel()
            watched = (
                self.request["background"]
                or self._feed.watchers > 0
                or await self._parts.stream.is_watched(self.owner.id)
            )
            if watched:
                unwatched_since = None
            elif unwatched_since is None:
                unwatched_since = time.monotonic()
            elif time.monotonic() - unwatched_since > self._parts.settings.unwatched_seconds:
                self.cancel()
