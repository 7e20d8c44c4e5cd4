"""The workers: claim a job, keep the claim alive, do it, try again while a part behind is down."""

import asyncio
import random

from cloister_common.errors import TooManyRequests, Unavailable
from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from prometheus_client import Gauge

from cloister_retriever.ingestion.pipeline import Pipeline
from cloister_retriever.ingestion.queue import Claim, JobQueue

__all__ = ["IngestWorkers"]

log = get_logger(__name__)
_BUSY = Gauge("cloister_ingest_workers_busy", "Workers with a job.")

_POLL_SECONDS = 2.0
"""How soon work put by another process is seen. Work of this process wakes its workers at once."""

_MOST_CLAIMS = 5
"""A file whose job was claimed this often took five processes down: it is ended with an error instead. A purge reads no
file and is never given up, since what it removes would stay."""

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0


class IngestWorkers:
    """A fixed number of workers over one queue."""

    def __init__(self, queue: JobQueue, pipeline: Pipeline, *, workers: int, lease_seconds: float) -> None:
        self._queue = queue
        self._pipeline = pipeline
        self._workers = workers
        self._keep_seconds = lease_seconds / 4
        self._claiming = asyncio.Lock()

    def start(self, supervisor: Supervisor) -> None:
        """Starts the workers under ``supervisor``."""
        for number in range(self._workers):
            supervisor.loop(f"ingest-{number}", self._work)

    async def _work(self) -> None:
        while True:
            # One worker of a process looks at a time: the others would see the same listing.
            async with self._claiming:
                self._queue.woken.clear()
                claim = await self._queue.claim()
                if claim is None:
                    await self._wait()
                    continue
            with _BUSY.track_inprogress():
                await self._do(claim)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_POLL_SECONDS):  # wait_for swallows cancellations on Python 3.11
                await self._queue.woken.wait()
        except TimeoutError:
            return

    async def _do(self, claim: Claim) -> None:
        try:
            await self._do_kept(claim)
        except asyncio.CancelledError:
            # This process is being stopped in good order: the job need not wait for its lease to run out.
            await self._queue.release(claim)
            raise
        finally:
            self._queue.abandon(claim)

    async def _do_kept(self, claim: Claim) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._keep(claim))
                await self._try(claim)
                keeping.cancel()
            if claim.number == 1 and await self._pipeline.is_early(claim.job):
                return  # the lease runs out, and whoever claims the job then looks again
            await self._queue.done(claim)
            await self._pipeline.requeue(claim.job, self._queue)
        except* _LeaseLost:
            log.warning("lease_lost", job=claim.job.name)

    async def _try(self, claim: Claim) -> None:
        act = self._pipeline.work
        if claim.job.kind == "ingest" and claim.number > _MOST_CLAIMS:
            log.error("job_given_up", job=claim.job.name, claims=claim.number)
            act = self._pipeline.give_up
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await act(claim.job)
                return
            except (Unavailable, TooManyRequests) as error:
                # A part behind is down or full. The job stays ours; the file stays in progress.
                log.warning("ingestion_waits", job=claim.job.name, reason=error.error_code)
                await asyncio.sleep(max(pause * random.uniform(0.5, 1.0), error.retry_after or 0))  # noqa: S311
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _keep(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(self._keep_seconds)
            try:
                if not await self._queue.keep(claim):
                    raise _LeaseLost
            except Unavailable:
                # The object store is away for everybody, so nobody can take the job over either.
                log.warning("lease_not_kept", job=claim.job.name)


class _LeaseLost(Exception):
    """Another process does the job now."""
