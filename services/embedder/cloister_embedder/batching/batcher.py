"""The loop that turns the waiting texts of many callers into forward passes of one model.

Queries of people wait in the interactive lane and go before the bulk lane, whose batches are small enough that a query
never waits long behind one. The queue lives on the event loop and needs no locks; forward passes run in one thread for
each model, so the loop never blocks.
"""

import asyncio
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Literal, NamedTuple, TypeVar

from cloister_common.errors import CloisterError, TooManyRequests, Unavailable
from cloister_common.logs import get_logger

from cloister_embedder import metrics
from cloister_embedder.batching.lane import BatchLimits, Entry, Job, Lane
from cloister_embedder.models.encoder import Encoder, Tokens
from cloister_embedder.models.memory import MemoryKeeper

__all__ = ["Batcher", "BatcherLimits"]

log = get_logger(__name__)
R = TypeVar("R")
LaneName = Literal["interactive", "bulk"]

_INTERACTIVE_IN_A_ROW = 4
"""After so many interactive batches a waiting bulk batch has its turn: bulk gets at least a fifth of the batches."""
_LONGEST_RETRY_SECONDS = 60


class BatcherLimits(NamedTuple):
    """Bounds of a model's queue and batches; see `QueueSettings` and `ModelSettings`."""

    batch: BatchLimits
    window_seconds: float
    interactive_texts: int
    max_waiting: dict[LaneName, int]


class Batcher(Generic[R]):
    """The queue of one model.

    Args:
        name: The model's public name, for metrics.
        encoder: The model.
        limits: Bounds of queue and batches.
        turn: Held during a forward pass. Models on one CPU share it: two passes at once would fight over the cores.
    """

    def __init__(self, name: str, encoder: Encoder[R], limits: BatcherLimits, turn: threading.Lock) -> None:
        self._name = name
        self._encoder = encoder
        self._limits = limits
        self._turn = turn
        self._lanes: dict[LaneName, Lane[R]] = {"interactive": Lane(), "bulk": Lane()}
        self._running: list[Entry[R]] = []
        self._filled = asyncio.Event()
        self._in_a_row = 0
        self._recent_tokens = 0.0
        self._recent_seconds = 0.0
        self._memory = MemoryKeeper()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"encode-{name}")

    async def submit(self, items: Sequence[Tokens], *, bulk: bool) -> list[R]:
        """The results for ``items``, in their order. A caller that is cancelled, or whom a batch has failed, takes its
        waiting texts out of the queue.

        Raises:
            TooManyRequests: The lane is full; ``retry_after`` is the time its work will take at the present speed.
            CloisterError: The model failed on a batch.
        """
        name: LaneName = "bulk" if bulk or len(items) > self._limits.interactive_texts else "interactive"
        lane = self._lanes[name]
        if lane.texts + len(items) > self._limits.max_waiting[name]:
            metrics.TEXTS.labels(self._name, "refused").inc(len(items))
            raise TooManyRequests(
                f"The queue of the model '{self._name}' is full. Try again later.",
                code="queue_full",
                retry_after=self._seconds_to_empty(lane),
            )
        job: Job[R] = Job(len(items))
        lane.add(job, items, time.monotonic())
        self._count_waiting()
        self._filled.set()
        try:
            return await job.done
        except (asyncio.CancelledError, CloisterError):
            metrics.TEXTS.labels(self._name, "dropped").inc(lane.drop(job))
            self._count_waiting()
            raise

    async def run(self) -> None:
        """Empties the queue, batch by batch, until cancelled."""
        while True:
            if not self._filled.is_set():
                await self._filled.wait()
                if sum(lane.texts for lane in self._lanes.values()) < self._limits.batch.texts:
                    await asyncio.sleep(self._limits.window_seconds)
            batch, lane = self._next_batch()
            if batch:
                await self._encode(batch, lane)

    async def close(self) -> None:
        """Fails whoever still waits and ends the thread. `run` must have been cancelled."""
        error = Unavailable("The embedder is shutting down. Try again.", retry_after=1)
        waiting = list(self._running)
        for lane in self._lanes.values():
            while batch := lane.take(self._limits.batch):
                waiting += batch
        self._fail(waiting, error)
        self._count_waiting()
        await asyncio.to_thread(self._thread.shutdown)

    def _next_batch(self) -> tuple[list[Entry[R]], LaneName]:
        interactive, bulk = self._lanes["interactive"], self._lanes["bulk"]
        turn_of_bulk = bulk.texts > 0 and (interactive.texts == 0 or self._in_a_row >= _INTERACTIVE_IN_A_ROW)
        self._in_a_row = 0 if turn_of_bulk else self._in_a_row + 1
        name: LaneName = "bulk" if turn_of_bulk else "interactive"
        batch = self._lanes[name].take(self._limits.batch)
        if interactive.texts == 0 and bulk.texts == 0:
            self._filled.clear()
        self._count_waiting()
        return batch, name

    async def _encode(self, batch: list[Entry[R]], lane: LaneName) -> None:
        now = time.monotonic()
        for entry in batch:
            metrics.QUEUE_SECONDS.labels(self._name, lane).observe(now - entry.arrived)
        self._running = batch
        try:
            results = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._pass, [entry.tokens for entry in batch]
            )
            self._deliver(batch, results)
        except Exception as error:
            # Whatever the model raises is this batch's failure and must not stop the loop for the others.
            log.error("batch_failed", model=self._name, texts=len(batch), exc_info=error)
            self._fail(batch, CloisterError("The model failed on this request. Try again; the operator's log has it."))
        else:
            self._measure(batch, time.monotonic() - now)
        self._running = []

    def _pass(self, tokens: list[Tokens]) -> list[R]:
        with self._turn:
            try:
                return self._encoder.encode(tokens)
            finally:
                self._memory.passed()

    def _deliver(self, batch: list[Entry[R]], results: list[R]) -> None:
        for entry, result in zip(batch, results, strict=True):
            for job, index in entry.waiters:
                job.put(index, result)
        waiters = sum(len(entry.waiters) for entry in batch)
        metrics.TEXTS.labels(self._name, "encoded").inc(len(batch))
        metrics.TEXTS.labels(self._name, "duplicate").inc(waiters - len(batch))

    def _fail(self, batch: list[Entry[R]], error: CloisterError) -> None:
        for entry in batch:
            for job, _ in entry.waiters:
                job.fail(error)

    def _measure(self, batch: list[Entry[R]], seconds: float) -> None:
        real = sum(entry.tokens.length for entry in batch)
        padded = len(batch) * max(entry.tokens.length for entry in batch)
        metrics.TOKENS.labels(self._name, "real").inc(real)
        metrics.TOKENS.labels(self._name, "padding").inc(padded - real)
        metrics.BATCH_TEXTS.labels(self._name).observe(len(batch))
        metrics.BATCH_SECONDS.labels(self._name).observe(seconds)
        self._recent_tokens = 0.9 * self._recent_tokens + real
        self._recent_seconds = 0.9 * self._recent_seconds + seconds

    def _seconds_to_empty(self, lane: Lane[R]) -> int:
        """Whole seconds until the lane's work is done at the speed of the last ten or so batches, within 1 to 60."""
        if self._recent_tokens == 0:
            return 1
        seconds = math.ceil(lane.tokens * self._recent_seconds / self._recent_tokens)
        return min(max(seconds, 1), _LONGEST_RETRY_SECONDS)

    def _count_waiting(self) -> None:
        for name, lane in self._lanes.items():
            metrics.QUEUED_TEXTS.labels(self._name, name).set(lane.texts)
