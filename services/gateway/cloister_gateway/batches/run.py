"""One batch, worked on by the gateway that holds its lease: validated, done line by line, its files written.

Each step is written before the next begins, so that whoever takes the batch over goes on where this one was: a line
without a result is asked for again, and of a line that was answered twice the first result stands.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeVar

from cloister_common.clients.embedder import EmbedderClient
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import CloisterError, TooManyRequests, Unavailable, UpstreamFailed
from cloister_common.logs import get_logger

from cloister_gateway.batch_settings import BatchSettings
from cloister_gateway.batches.answering import LineAnswers
from cloister_gateway.batches.endpoints import Endpoint, Over
from cloister_gateway.batches.files import ResultFiles, file_ids
from cloister_gateway.batches.lines import InputFile, RawLine
from cloister_gateway.batches.metrics import ENDED, LINES
from cloister_gateway.batches.records import BatchState, Ending, LineFault, StoredBatch
from cloister_gateway.batches.results import BatchResults
from cloister_gateway.batches.store import BatchStore, DeposedError
from cloister_gateway.batches.validation import InputCheck
from cloister_gateway.runs.lease import RENEW_SECONDS, Leases
from cloister_gateway.storage import KeyedObject
from cloister_gateway.storage.client import REDIS_AWAY

__all__ = ["BatchParts", "BatchRun"]

log = get_logger(__name__)
T = TypeVar("T")

_EMBEDDER_SECONDS = 10.0
_REDIS_PAUSE_SECONDS = 0.5
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 30.0


class BatchParts(NamedTuple):
    """What every batch of this gateway works with.

    Attributes:
        endpoints: By their paths.
        most_line_bytes: As long as a line may be.
    """

    store: BatchStore
    leases: Leases
    answers: LineAnswers
    files: ResultFiles
    endpoints: Mapping[str, Endpoint]
    retriever: RetrieverClient
    embedder: EmbedderClient
    settings: BatchSettings
    most_line_bytes: int

    def results(self, keyed: KeyedObject) -> BatchResults:
        """What became of a batch's lines."""
        return BatchResults(keyed, self.store, self.retriever, self.settings)


class BatchRun:
    """The work on a batch whose lease was just taken.

    Args:
        keyed: The batch.
        stored: How it stood then.
        parts: What it works with.
    """

    def __init__(self, keyed: KeyedObject, stored: StoredBatch, parts: BatchParts) -> None:
        self._keyed = keyed
        self._record = stored.record
        self._state = stored.state
        self._parts = parts
        self._caller = stored.record.caller.principal(keyed.key.tenant)
        self._cancelled = stored.cancelling_at is not None
        self._look = asyncio.Event()
        self._stop: Callable[[], None] = _nothing
        self._results = parts.results(keyed)
        self._source = InputFile(
            parts.retriever,
            keyed.key.tenant,
            stored.record.input_file_id,
            stored.record.input_bytes,
            caller=self._caller.reader,
            most_line_bytes=parts.most_line_bytes,
        )

    def look(self) -> None:
        """Has it look at once whether it is to be cancelled."""
        self._look.set()

    async def execute(self) -> None:
        """Works until the batch has ended.

        Raises:
            DeposedError: Somebody else works on it now, or it is gone.
            RedisError, OSError: Redis is away for longer than a lease.
        """
        try:
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(self._keep(), name="batch-lease")
                await self._work()
                keeping.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _work(self) -> None:
        if self._state.stage == "open":
            ending = await self._until_stopped()
            if not self._state.total:
                # Nothing of it was begun, so there is nothing to be written.
                await self._end(self._state, ending)
                return
            while not await self._close(ending):
                pass
        if not self._state.ended:
            await self._finalize()

    async def _close(self, ending: Ending) -> bool:
        """Has no more results taken, and chooses the files for those that there are; False if one came meanwhile."""
        stored = await self._parts.store.read(self._keyed)
        if stored is None:
            raise DeposedError
        closing = {"status": "finalizing", "ending": ending, "finalizing_at": int(time.time())}
        state = file_ids(self._state.model_copy(update=closing), stored.completed, stored.failed)
        return await self._write(state, (stored.completed, stored.failed))

    async def _until_stopped(self) -> Ending:
        """Validates the input and does its lines, until all are done, the time is over or somebody cancels."""
        loop = asyncio.get_running_loop()
        left = self._record.expires_at - time.time()
        try:
            async with asyncio.timeout_at(loop.time() + left) as limit:
                self._stop = lambda: limit.reschedule(loop.time())
                if self._cancelled:
                    self._stop()
                return await self._done(limit.expired)
        except TimeoutError:
            return "cancelled" if self._cancelled else "expired"
        finally:
            self._stop = _nothing

    async def _done(self, over: Over) -> Ending:
        try:
            if self._state.status == "validating" and not await self._validate():
                return "failed"
            await self._do_lines(over)
        except CloisterError as error:
            log.warning("batch_input_lost", batch=self._keyed.id, error=error.error_code)
            fault = LineFault(code=error.error_code, message=error.message, param="input_file_id")
            self._state = self._state.model_copy(update={"errors": (fault,)})
            return "failed"
        return "completed"

    async def _validate(self) -> bool:
        """Whether all of the input can be done. What cannot is in the state afterwards."""
        settings, record = self._parts.settings, self._record
        check = InputCheck(
            self._caller,
            record.endpoint,
            self._parts.endpoints[record.endpoint],
            known=await self._embedding_models(),
            most_lines=settings.lines,
            most_line_bytes=self._parts.most_line_bytes,
        )
        checked = await check.check(self._source)
        if checked.faults:
            self._state = self._state.model_copy(update={"errors": checked.faults})
            return False
        now = int(time.time())
        await self._write(
            self._state.model_copy(
                update={
                    "status": "in_progress",
                    "total": checked.total,
                    "model": checked.model,
                    "in_progress_at": now,
                }
            )
        )
        return True

    async def _embedding_models(self) -> frozenset[str] | None:
        """What the embedder has; None where it does not say: then a line that asks for another one fails."""
        if self._record.endpoint != "/v1/embeddings":
            return None
        try:
            listed = await self._parts.embedder.models(tenant=self._keyed.key.tenant, within_seconds=_EMBEDDER_SECONDS)
        except CloisterError:
            return None
        return frozenset(model["id"] for model in listed)

    async def _do_lines(self, over: Over) -> None:
        done = await self._results.done()
        places = asyncio.Semaphore(self._parts.settings.lines_at_once)
        lost: CloisterError | None = None
        async with asyncio.TaskGroup() as lines:
            try:
                async for part in self._source.parts():
                    for line in part:
                        if line.number not in done:
                            await places.acquire()
                            lines.create_task(self._do_line(line, places, over), name="batch-line")
            except CloisterError as error:
                # What has begun is done; the others nobody can read.
                lost = error
        if lost is not None:
            raise lost

    async def _do_line(self, line: RawLine, places: asyncio.Semaphore, over: Over) -> None:
        try:
            endpoint = self._parts.endpoints[self._record.endpoint]
            result = await self._parts.answers.result(
                self._keyed.id, self._caller, self._record.endpoint, endpoint, line, over
            )
            holder = self._parts.leases.holder
            held = await self._patiently(lambda: self._parts.store.add_result(self._keyed, holder, line.number, result))
            LINES.labels("completed" if result.answered else "failed").inc()
            await self._results.make_room(held, holder, self._patiently)
        finally:
            places.release()

    async def _finalize(self) -> None:
        """Writes the files, however long the retriever is away, and ends the batch."""
        ending = self._state.ending or "failed"
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                used = await self._parts.files.write(
                    self._keyed, self._record, self._state, self._caller, self._source, self._results
                )
                break
            except (Unavailable, UpstreamFailed, TooManyRequests) as error:
                log.warning("batch_files_wait", batch=self._keyed.id, error=error.error_code)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            except CloisterError as error:
                log.error("batch_files_refused", batch=self._keyed.id, error=error.error_code, reason=error.message)
                fault = LineFault(code=error.error_code, message=error.message)
                lost = {"errors": (*self._state.errors, fault), "output_file_id": None, "error_file_id": None}
                await self._end(self._state.model_copy(update=lost), "failed")
                return
        await self._end(self._state.model_copy(update={"usage": used}), ending)

    async def _end(self, state: BatchState, ending: Ending) -> None:
        ended = {"status": ending, "ending": ending, "ended_at": int(time.time())}
        await self._write(state.model_copy(update=ended))
        ENDED.labels(ending).inc()
        log.info("batch_ended", batch=self._keyed.id, status=ending, lines=state.total)

    async def _write(self, state: BatchState, counted: tuple[int, ...] = ()) -> bool:
        holder = self._parts.leases.holder
        written = await self._patiently(lambda: self._parts.store.write(self._keyed, holder, state, counted))
        if written:
            self._state = state
        return written

    async def _patiently(self, write: Callable[[], Awaitable[T]]) -> T:
        """Writes, however long Redis is away: if the lease is over by then, it is found out by the write."""
        while True:
            try:
                return await write()
            except REDIS_AWAY as error:
                log.warning("batch_waits_for_store", batch=self._keyed.id, error=type(error).__name__)
                await asyncio.sleep(_REDIS_PAUSE_SECONDS)

    async def _keep(self) -> None:
        """Renews the lease, and hears of cancellations."""
        while True:
            try:
                async with asyncio.timeout(RENEW_SECONDS):
                    await self._look.wait()
            except TimeoutError:
                pass  # Nobody called, and it is looked at all the same.
            self._look.clear()
            try:
                if not await self._parts.leases.renew(self._keyed.id) and not await self._parts.leases.take(
                    self._keyed.id
                ):
                    raise DeposedError
                header = await self._parts.store.header(self._keyed.id)
            except REDIS_AWAY as error:
                log.warning("batch_not_renewed", batch=self._keyed.id, error=type(error).__name__)
                continue
            if header is None:
                raise DeposedError
            if header.cancelled and not self._cancelled:
                self._cancelled = True
                self._stop()


def _first(errors: BaseExceptionGroup) -> BaseException:
    """The first of several errors, that of the batch rather than that of one who waits for it."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _nothing() -> None:
    """There is nothing to stop."""
