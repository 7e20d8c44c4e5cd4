"""The meter that writes down what generations used, once each, soon after they end.

It asks nothing of Redis before a generation, and nobody waits for it: rows are written together, a few times a second.
"""

import asyncio
import time
from contextlib import suppress

from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from prometheus_client import Counter

from cloister_gateway.storage.client import REDIS_AWAY
from cloister_gateway.usage.metering import Ending, Generation, PromptSize, Used
from cloister_gateway.usage.records import Row, Sum, Times, Whom
from cloister_gateway.usage.store import UsageStore

__all__ = ["Ledger"]

log = get_logger(__name__)
_TOKENS = Counter("cloister_used_tokens_total", "Tokens used, by project and model.", ["project", "model", "what"])
_GENERATIONS = Counter("cloister_used_generations_total", "Generations that ended.", ["project", "model", "ending"])
_UNWRITTEN = Counter("cloister_usage_rows_dropped_total", "Rows that could not be written.")

_TOGETHER_SECONDS = 0.25
_RETRY_SECONDS = 1.0
_MOST_WAITING = 100_000
"""Rows that wait for a Redis that is away: 50 MB."""
_MOST_LABELLED = 1_000
"""Pairs of project and model that metrics tell apart on one gateway; the others are told together."""


class Ledger:
    """A `Meter` that reserves nothing.

    Args:
        store: Where rows go.
    """

    def __init__(self, store: UsageStore) -> None:
        self._store = store
        self._waiting: dict[str, Row] = {}
        self._begun: dict[str, float] = {}
        self._labelled: set[tuple[str, str]] = set()
        self._write_now = asyncio.Event()

    def start(self, supervisor: Supervisor) -> None:
        """Begins to write; ends with the supervisor."""
        supervisor.loop("usage-ledger", self._write_all)

    async def reserve(
        self, generation: Generation, *, most_output_tokens: int, prompt_tokens: PromptSize | None = None
    ) -> None:
        """Notes when it began."""
        if generation.kind != "ingestion":
            self._begun[generation.id] = time.monotonic()

    def held_at(self, generation: Generation, prompt_tokens: PromptSize) -> str | None:
        """Nowhere."""
        return None

    def settle(self, generation: Generation, used: Used, ending: Ending) -> None:
        """Has what it used written down."""
        begun = self._begun.pop(generation.id, None)
        if not generation.model:
            # It never began, or nothing that is stored of it opens.
            return
        row = _row(generation, used, ending, _times(used, begun))
        self._count(row)
        if len(self._waiting) >= _MOST_WAITING:
            _UNWRITTEN.inc()
            log.error("usage_row_dropped", generation=row.id)
            return
        self._waiting[row.id] = row
        self._write_now.set()

    async def write_now(self, generation: Generation, used: Used, ending: Ending) -> None:
        """Writes down an ingestion. Raises what redis-py raises; doing it again changes nothing of the sums."""
        row = _row(generation, used, ending, Times())
        await self._store.add(row)
        self._count(row)

    async def note_lost(self, generation: Generation, used: Used) -> None:
        """Writes down a generation whose gateway died, with what its limits count it as. Where its run goes on after
        all, its own row takes the place of this one."""
        await self._store.add(_row(generation, used, "failed", Times()))

    async def flush(self) -> None:
        """Writes all that waits, before the process ends."""
        with suppress(*REDIS_AWAY):
            await self._write()

    async def _write_all(self) -> None:
        while True:
            await self._write_now.wait()
            await asyncio.sleep(_TOGETHER_SECONDS)
            self._write_now.clear()
            try:
                await self._write()
            except REDIS_AWAY as error:
                log.warning("usage_not_written", rows=len(self._waiting), error=type(error).__name__)
                self._write_now.set()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _write(self) -> None:
        rows = list(self._waiting.values())
        told = await asyncio.gather(*(self._write_one(row) for row in rows), return_exceptions=True)
        lost = next((error for error in told if isinstance(error, BaseException)), None)
        if lost is not None:
            raise lost

    async def _write_one(self, row: Row) -> None:
        try:
            await self._store.add(row)
        except REDIS_AWAY:
            raise
        except Exception:
            # One that cannot be written must not keep the others from it.
            _UNWRITTEN.inc()
            log.exception("usage_row_dropped", generation=row.id)
        if self._waiting.get(row.id) is row:
            del self._waiting[row.id]

    def _count(self, row: Row) -> None:
        labels = (row.project, row.whom.model)
        if labels not in self._labelled:
            if len(self._labelled) >= _MOST_LABELLED:
                labels = ("other", "other")
            self._labelled.add(labels)
        _GENERATIONS.labels(*labels, row.ending).inc()
        for what, number in zip(("read", "cached", "written", "reasoning"), row.used[1:5], strict=True):
            if number:
                _TOKENS.labels(*labels, what).inc(number)


def _times(used: Used, begun: float | None) -> Times:
    if begun is None:
        return Times()
    moments = (used.served.asked_at, used.served.first_at, time.monotonic())
    return Times(*(None if moment is None else round(max(0.0, moment - begun), 3) for moment in moments))


def _row(generation: Generation, used: Used, ending: Ending, times: Times) -> Row:
    whom = Whom(generation.user, generation.key_id, generation.model)
    numbers = Sum.of_one(used.prompt, used.cached, used.output, used.reasoning, used.split)
    at, exact = generation.begun or int(time.time()), used.exact and not used.silent
    kind, adapter = generation.kind, used.served.adapter
    return Row(
        generation.id, generation.tenant, whom, kind, adapter, at, times, numbers, exact, ending, generation.batch
    )
