"""What became of a batch's lines, until its files are written: the newest in Redis, the others in sealed parts that the
retriever keeps, so that Redis has a bounded share of it however long a batch is.

A line's result is sealed by its number, and goes from Redis into a part as it is. Nothing is lost or doubled by a
gateway that dies on the way: a part is noted, then written under an id of its own, then in one step Redis notes whose
results it has and forgets them. One that was written and never noted is read by nobody, and goes with the others.

    part    of each line: its number, the length of its sealed result (4 bytes each, the highest first), that result
"""

import asyncio
import struct
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from itertools import accumulate, pairwise

from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import CloisterError
from cloister_common.ids import new_id
from cloister_common.logs import get_logger

from cloister_gateway.batch_settings import BatchSettings
from cloister_gateway.batches.records import LineResult
from cloister_gateway.batches.store import BatchStore, Held
from cloister_gateway.storage import KeyedObject, damage_told

__all__ = ["BatchResults", "Patiently"]

log = get_logger(__name__)

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0
_RESULTS_A_READ = 64
_OPEN_PARTS = 4
"""Parts that a reader keeps: lines lie in them in the order in which they ended, nearly that of the input."""
_HEAD = struct.Struct(">II")

Patiently = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Does a write to Redis, however long that is away."""


class BatchResults:
    """The results of one batch.

    Args:
        keyed: The batch.
        store: Has the newest.
        retriever: Has the others.
        settings: How many lie in Redis.
    """

    def __init__(
        self, keyed: KeyedObject, store: BatchStore, retriever: RetrieverClient, settings: BatchSettings
    ) -> None:
        self._keyed = keyed
        self._store = store
        self._retriever = retriever
        self._settings = settings
        self._moving = asyncio.Lock()

    async def done(self) -> set[int]:
        """The numbers of the lines that have a result."""
        # (In this order: what is moved meanwhile is in one of the two.)
        here = await self._store.here(self._keyed.id)
        return here | (await self._places()).keys()

    async def make_room(self, held: Held, holder: str, patiently: Patiently) -> None:
        """Moves results into a part where Redis has enough of them, which is ``held``.

        While the retriever is away one caller goes on trying, and the others wait once there are twice as many.

        Raises:
            DeposedError: ``holder`` has not the lease.
        """
        if not self._is_full(held) or (self._moving.locked() and not self._is_full(held, 2)):
            return
        pause = _FIRST_PAUSE_SECONDS
        async with self._moving:
            while True:
                try:
                    await self._move(holder, patiently)
                    break
                except CloisterError as error:
                    log.warning("batch_part_waits", batch=self._keyed.id, error=error.error_code)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def each(self, numbers: Collection[int]) -> AsyncIterator[tuple[int, LineResult]]:
        """What became of these lines, by number, in their order. Nobody moves them meanwhile.

        Raises:
            DamagedError: One is not what was written.
            CloisterError: The retriever is away.
        """
        places, ordered = await self._places(), sorted(numbers)
        parts: OrderedDict[str, dict[int, bytes]] = OrderedDict()
        for begin in range(0, len(ordered), _RESULTS_A_READ):
            some = ordered[begin : begin + _RESULTS_A_READ]
            found: dict[int, bytes | None] = {}
            for part_id in dict.fromkeys(places[number] for number in some if number in places):
                part = await self._part(parts, part_id)
                found |= {number: part.get(number) for number in some if places.get(number) == part_id}
            here = [number for number in some if number not in places]
            found |= {number: sealed async for number, sealed in self._store.sealed(self._keyed.id, here)}
            for number in some:
                yield number, self._store.open_result(self._keyed, number, found[number])

    async def drop(self) -> None:
        """Removes all of it, once it is in files. Raises `CloisterError` while the retriever is away."""
        if await self._store.parts(self._keyed.id):
            await self._retriever.parts.drop(self._keyed.key.tenant, self._keyed.id)
        await self._store.drop_results(self._keyed.id)

    def _is_full(self, held: Held, times: int = 1) -> bool:
        return held.lines >= times * self._settings.part_lines or held.bytes >= times * self._settings.part_bytes

    async def _move(self, holder: str, patiently: Patiently) -> None:
        keyed, part_id = self._keyed, new_id("part_")
        numbers: list[int] = []
        content = bytearray()
        size = 0
        here = await self._store.here(keyed.id)
        async for number, sealed in self._store.sealed(keyed.id, sorted(here)[: self._settings.part_lines]):
            if sealed is None:
                continue
            numbers.append(number)
            content += _HEAD.pack(number, len(sealed)) + sealed
            size += len(sealed)
            if size >= self._settings.part_bytes:
                break
        if not numbers:
            return
        await patiently(lambda: self._store.begin_part(keyed, holder, part_id))
        await self._retriever.parts.put(keyed.key.tenant, keyed.id, part_id, bytes(content))
        await patiently(lambda: self._store.move(keyed, holder, part_id, _noted(numbers), numbers, size))

    async def _places(self) -> dict[int, str]:
        """The part in which each line lies that lies in one."""
        with damage_told(f"the parts of batch '{self._keyed.id}'"):
            parts = await self._store.parts(self._keyed.id)
            return {number: part_id for part_id, noted in parts.items() for number in _numbers(noted)}

    async def _part(self, parts: OrderedDict[str, dict[int, bytes]], part_id: str) -> dict[int, bytes]:
        """The sealed results of a part, out of those that are open, or opened."""
        if part_id not in parts:
            # (What is not there, or is cut, has no results, and each line that is missed says so.)
            content = await self._retriever.parts.get(self._keyed.key.tenant, self._keyed.id, part_id)
            parts[part_id] = _results(content or b"")
            if len(parts) > _OPEN_PARTS:
                parts.popitem(last=False)
        parts.move_to_end(part_id)
        return parts[part_id]


def _noted(numbers: Sequence[int]) -> bytes:
    """Ascending numbers as they are noted: mostly one behind the other, so the steps between them are small."""
    steps = [numbers[0], *(later - number for number, later in pairwise(numbers))]
    return zlib.compress(struct.pack(f">{len(steps)}I", *steps))


def _numbers(noted: bytes) -> list[int]:
    """The numbers again; none of a part that was only begun. Raises `ValueError` if they are not as they were noted."""
    try:
        steps = zlib.decompress(noted) if noted else b""
        return list(accumulate(struct.unpack(f">{len(steps) // 4}I", steps)))
    except (zlib.error, struct.error) as error:
        raise ValueError(str(error)) from error


def _results(content: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at + _HEAD.size <= len(content):
        number, size = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        found[number] = content[at : at + size]
        at += size
    return found
