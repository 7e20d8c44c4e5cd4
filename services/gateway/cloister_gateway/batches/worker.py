"""Who works on which batch: one gateway each, which takes its lease; another, where that one died."""

import asyncio

from cloister_common.errors import CloisterError
from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from cloister_common.vault import VaultError
from redis.exceptions import RedisError

from cloister_gateway.batches.metrics import RUNNING
from cloister_gateway.batches.run import BatchParts, BatchRun
from cloister_gateway.batches.store import DeposedError
from cloister_gateway.storage import DamagedError
from cloister_gateway.storage.client import REDIS_AWAY

__all__ = ["BatchWorker"]

log = get_logger(__name__)

_SWEEP_SECONDS = 1.0
_DAY_SECONDS = 86_400


class BatchWorker:
    """Works on batches.

    Args:
        parts: What it works with.
        supervisor: Runs it.
    """

    def __init__(self, parts: BatchParts, supervisor: Supervisor) -> None:
        self._parts = parts
        self._supervisor = supervisor
        self._draining = asyncio.Event()
        self._runs: dict[str, BatchRun] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def running(self) -> set[str]:
        """The batches that this gateway works on."""
        return set(self._tasks)

    def start(self) -> None:
        """Begins to look for batches that nobody works on."""
        self._supervisor.loop("batches", self._sweep)

    async def announce(self, batch_id: str) -> None:
        """Has a batch found that is about to be made, whatever becomes of this gateway."""
        await self._parts.leases.list_alone(batch_id)

    async def begin(self, batch_id: str) -> None:
        """Works on a batch that was just made, if there is room here; else whoever has room first."""
        if len(self._tasks) < self._parts.settings.at_once and not self._draining.is_set():
            await self._adopt(batch_id)
        else:
            await self._parts.leases.hand_over([batch_id])

    def look(self, batch_id: str) -> None:
        """A batch is to be cancelled: it is told at once where it is worked on here."""
        run = self._runs.get(batch_id)
        if run is not None:
            run.look()

    async def hand_over(self) -> None:
        """Gives all batches up, so that other gateways go on with them."""
        self._draining.set()
        batches, tasks = list(self._tasks), list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._parts.leases.hand_over(batches)
        except REDIS_AWAY as error:
            log.warning("batches_not_handed_over", error=type(error).__name__)

    async def _sweep(self) -> None:
        while not self._supervisor.stopping.is_set():
            try:
                for batch_id in await self._parts.leases.abandoned():
                    if len(self._tasks) >= self._parts.settings.at_once or self._draining.is_set():
                        break
                    await self._adopt(batch_id)
                for batch_id in await self._parts.leases.due():
                    await self._drop(batch_id)
            except (*REDIS_AWAY, CloisterError) as error:
                log.warning("batches_sweep_failed", error=type(error).__name__)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _adopt(self, batch_id: str) -> None:
        """Works on a batch if its lease is free."""
        if batch_id in self._tasks or self._draining.is_set() or not await self._parts.leases.take(batch_id):
            return
        self._tasks[batch_id] = self._supervisor.spawn("batch", self._run(batch_id))
        RUNNING.set(len(self._tasks))

    async def _run(self, batch_id: str) -> None:
        store, leases = self._parts.store, self._parts.leases
        try:
            header = await store.header(batch_id)
            keyed = None if header is None else await store.keyed(header)
            stored = None if keyed is None else await store.read(keyed)
            if keyed is None or stored is None:
                await leases.release(batch_id)
                return
            if not stored.state.ended:
                run = self._runs[batch_id] = BatchRun(keyed, stored, self._parts)
                await run.execute()
            await self._parts.results(keyed).drop()
            await leases.ended(batch_id, keep_seconds=self._parts.settings.keep_days * _DAY_SECONDS)
        except DeposedError:
            log.info("batch_lost", batch=batch_id)
        except (VaultError, DamagedError) as error:
            # Whoever looks at it is told; nobody can go on with it.
            log.error("stored_data_damaged", what=f"batch '{batch_id}'", exc_info=error)
            await leases.ended(batch_id, keep_seconds=self._parts.settings.keep_days * _DAY_SECONDS)
        except CloisterError as error:
            # Its results are dropped again when its lease is over.
            log.warning("batch_parts_stay", batch=batch_id, error=error.error_code)
        except (*REDIS_AWAY, RedisError) as error:
            log.warning("batch_interrupted", batch=batch_id, error=type(error).__name__)
        finally:
            self._runs.pop(batch_id, None)
            self._tasks.pop(batch_id, None)
            RUNNING.set(len(self._tasks))

    async def _drop(self, batch_id: str) -> None:
        """Removes a batch that was kept for long enough. Its files stay."""
        header = await self._parts.store.header(batch_id)
        if header is not None:
            # (Once more: one that a cancelled batch had under way may have arrived behind its end.)
            if header.parted:
                await self._parts.retriever.parts.drop(header.tenant, batch_id)
            await self._parts.store.destroy(header)
        await self._parts.leases.dropped(batch_id)
