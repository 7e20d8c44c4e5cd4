"""The workers: claim jobs by turns, keep the claims alive, do them, try again while a part behind is down."""

import asyncio
import random
from functools import partial

from cloister_common.errors import TooManyRequests, Unavailable
from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from prometheus_client import Gauge

from cloister_retriever.ingestion.pipeline import Pipeline
from cloister_retriever.ingestion.turns import Rank, Turn, Turns
from cloister_retriever.jobs.names import JobName
from cloister_retriever.jobs.queue import Claim, JobQueue

__all__ = ["IngestWorkers"]

log = get_logger(__name__)
_BUSY = Gauge("cloister_ingest_workers_busy", "Jobs in work, with those that stand aside for another tenant's.")

_POLL_SECONDS = 1.0
"""How soon work put by another process is seen. Work of this process wakes its workers at once."""

_MOST_CLAIMS = 5
"""A file whose job was claimed this often took five processes down: it is ended with an error instead. A purge reads no
file and is never given up, since what it removes would stay."""

_EARLY_SECONDS = 1.0
"""Whoever attaches a file writes its marker a moment before. A job that is found between the two is looked at again."""

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0


class IngestWorkers:
    """A fixed number of turns over one queue.

    Args:
        queue: Where the jobs are.
        pipeline: Does them.
        workers: How many work at a time.
        lease_seconds: After which a silent worker's job is taken over.
        turn_seconds: How long a job works before another tenant's may take its turn.
    """

    def __init__(
        self, queue: JobQueue, pipeline: Pipeline, *, workers: int, lease_seconds: float, turn_seconds: float = 10.0
    ) -> None:
        self._queue = queue
        self._pipeline = pipeline
        self._keep_seconds = lease_seconds / 4
        self.turns = Turns(workers, turn_seconds, queue.woken, queue.elsewhere)

    def start(self, supervisor: Supervisor) -> None:
        """Starts giving turns; the jobs run under ``supervisor``."""
        supervisor.loop("ingest", lambda: self._give_turns(supervisor))

    async def _give_turns(self, supervisor: Supervisor) -> None:
        await self._pipeline.warm()
        while True:
            self._queue.woken.clear()
            if await self._give_turn(supervisor):
                continue
            if not self.turns.is_free:
                shares = await self._queue.shares() if self.turns.has_room else {}
                waiting = {share: small for share, small in shares.items() if not self.turns.is_parked(share)}
                self.turns.make_way(waiting, {share for share, small in waiting.items() if small})
            await self._wait()

    async def _give_turn(self, supervisor: Supervisor) -> bool:
        """Gives a turn that is free, if any job wants it: to one that stands aside, or to one of the queue."""
        if not self.turns.is_free and not self.turns.is_small_free:
            return False
        aside = self.turns.first_aside() if self.turns.is_free else None

        def rank(share: str) -> Rank | None:
            own = self.turns.rank(share)
            return own if aside is None or own < self.turns.rank(aside.share) else None

        claim = None
        if self.turns.has_room:
            claim = await self._queue.claim(rank, small=not self.turns.is_free, rests=self.turns.is_parked)
        if claim is not None:
            turn = self.turns.begin(JobName.read(claim.job.name).share)
            supervisor.spawn("ingest-job", self._work(claim, turn))
        elif aside is not None:
            self.turns.resume(aside)
        return claim is not None or aside is not None

    async def _work(self, claim: Claim, turn: Turn) -> None:
        try:
            with _BUSY.track_inprogress():
                await self._do(claim, turn)
        finally:
            self.turns.end(turn)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_POLL_SECONDS):  # wait_for swallows cancellations on Python 3.11
                await self._queue.woken.wait()
        except TimeoutError:
            return

    async def _do(self, claim: Claim, turn: Turn) -> None:
        try:
            await self._do_kept(claim, turn)
        except asyncio.CancelledError:
            # This process is being stopped in good order: the job need not wait for its lease to run out.
            await self._queue.release(claim)
            raise
        finally:
            self._pipeline.leave(claim.job)
            self._queue.abandon(claim)

    async def _do_kept(self, claim: Claim, turn: Turn) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._keep(claim))
                await self._try(claim, turn)
                early = claim.number == 1 and await self._pipeline.is_early(claim.job)
                if early:
                    await asyncio.sleep(_EARLY_SECONDS)
                    await self._try(claim, turn)
                    early = await self._pipeline.is_early(claim.job)
                keeping.cancel()
            if early:
                return  # the lease runs out, and whoever claims the job then looks again
            await self._queue.done(claim)
            await self._pipeline.requeue(claim.job, self._queue)
        except* _LeaseLost:
            log.warning("lease_lost", job=claim.job.name)

    async def _try(self, claim: Claim, turn: Turn) -> None:
        act = partial(self._pipeline.work, turn=turn)
        if claim.job.kind == "ingest" and claim.number > _MOST_CLAIMS:
            log.error("job_given_up", job=claim.job.name, claims=claim.number)
            act = partial(self._pipeline.give_up)
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
                await turn.held()

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
