"""Handing the events of one run to all who follow it here: what was committed together is encoded once for all.

A follower is a place in the events and a reader that takes them without waiting: no task is woken for it and nothing of
it waits in a queue. A reader without room is left where it stands and costs nothing until it has room again; then it
goes on from there by itself.
"""

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Any, Protocol

from cloister_common.logs import get_logger

__all__ = ["Batch", "Fanout", "Follower", "Reader"]

log = get_logger(__name__)

_SLICE_BYTES = 1024 * 1024
_WRITE_BYTES = 8 * 1024
"""What is handed out before others have the event loop, and what a write counts for beside its bytes: a millisecond of
small writes, 128 of them, or of large ones, which TLS encrypts at a gigabyte a second."""
_PAUSE_EACH_SECONDS = 80e-6
_LONGEST_PAUSE_SECONDS = 0.04
"""After events have gone out, the next wait so long for each follower, and are joined. A write costs some 6 µs however
many events it carries: so a run that many follow takes a tenth of a core at most, one that few follow is never delayed,
and nobody reads later than he would notice. A first token and a run's end do not wait."""
_BATCH_BYTES = 64 * 1024
_BATCH_EVENTS = 1024
"""What a reader is handed at once. It may be the last it has room for."""


class Batch:
    """Events that follow each other.

    Attributes:
        events: JSON objects.
        size: Their bytes.
        made: What readers have made of them, by the way they are written, for other readers of that way.
    """

    __slots__ = ("events", "made", "size")

    def __init__(self, events: list[bytes]) -> None:
        self.events = events
        self.size = sum(map(len, events))
        self.made: dict[Hashable, Any] = {}


class Reader(Protocol):
    """Takes events without waiting.

    Attributes:
        has_room: Whether it takes more now. When it does again, it calls `Follower.go_on`.
    """

    has_room: bool

    def take(self, batch: Batch, way: Any) -> None:
        """Takes ``batch``, all of it, written in a ``way`` that the reader knows."""


class Follower:
    """The place of a reader in the events of one run.

    Args:
        reader: Is handed the events.
        way: How it writes them.
        after: The number of the event before the first it wants.
    """

    __slots__ = ("_ended", "_fanout", "_reader", "_way", "position")

    def __init__(self, reader: Reader, *, way: Hashable = None, after: int = -1) -> None:
        self._reader = reader
        self._way = way
        self._fanout: Fanout | None = None
        self._ended: asyncio.Future[None] | None = None
        self.position = after + 1

    @property
    def behind(self) -> bool:
        """Whether there is something that it was not handed yet."""
        return self._fanout is not None and self.position < len(self._fanout.events)

    def go_on(self) -> None:
        """Hands on what there is, as much as the reader has room for."""
        while self.step():
            pass

    def step(self) -> int:
        """Hands on one batch; gives its bytes, or 0 where there is none, or no room for it."""
        fanout, ended = self._fanout, self._ended
        if fanout is None or ended is None or ended.done():
            return 0
        handed = 0
        if self._reader.has_room and self.position < len(fanout.events):
            batch = fanout.batches.get(self.position) or fanout.batch(self.position)
            self.position += len(batch.events)
            handed = batch.size
            try:
                self._reader.take(batch, self._way)
            except Exception as error:  # noqa: BLE001 - it concerns this reader only, who is told
                ended.set_exception(error)
                return 0
        if fanout.ended and self.position >= len(fanout.events):
            if fanout.error is None:
                ended.set_result(None)
            else:
                ended.set_exception(fanout.error)
        return handed

    def hand(self, events: list[bytes]) -> None:
        """Hands on events that stand in no feed."""
        self.position += len(events)
        self._reader.take(Batch(events), self._way)

    async def until_end(self, fanout: "Fanout") -> None:
        """Follows until the run has ended and the reader has taken all of it. Raises what the feed ended with."""
        self._fanout, self._ended = fanout, asyncio.get_running_loop().create_future()
        fanout.followers[self] = None
        try:
            self.go_on()
            await self._ended
        finally:
            del fanout.followers[self]
            self._fanout = None


class Fanout:
    """The followers of one run.

    Args:
        events: Those of the run so far. It grows; `tell` says so.

    Attributes:
        followers: In the order in which they came.
        ended: Whether nothing comes any more.
        error: Why, where the run did not end.
        batches: Those of a round, by the number of their first event, for all who stand at the same place.
    """

    def __init__(self, events: list[bytes]) -> None:
        self.events = events
        self.followers: dict[Follower, None] = {}
        self.ended = False
        self.error: Exception | None = None
        self.batches: dict[int, Batch] = {}
        self._round: deque[Follower] = deque()  # who is handed something in this round, after those who were
        self._again = False
        self._due: asyncio.Handle | None = None
        self._next = 0.0

    def tell(self, *, ended: bool, error: Exception | None = None) -> None:
        """There is more: it goes out soon, or in a moment, together with what comes until then.

        Args:
            ended: Whether this was the last. Every follower learns it once it was handed all there is.
            error: Why, where the run did not end.
        """
        self.ended, self.error = ended, error
        self.batches.clear()
        if self._round:
            self._again = True
            return
        if self._due is not None:
            if not self.ended:
                return
            self._due.cancel()
            self._due = None
        if self.followers:
            loop = asyncio.get_running_loop()
            if self.ended or loop.time() >= self._next:
                self._due = loop.call_soon(self._hand_out)
            else:
                self._due = loop.call_at(self._next, self._hand_out)

    def batch(self, first: int) -> Batch:
        """The events from number ``first`` on, as many as fit into a batch, which is not in `batches` yet."""
        events = self.events[first : first + _BATCH_EVENTS]
        size = 0
        for number, event in enumerate(events):
            size += len(event)
            if size > _BATCH_BYTES and number:
                del events[number:]
                break
        batch = Batch(events)
        if self._round:
            self.batches[first] = batch
        return batch

    def _hand_out(self) -> None:
        """One round, in slices."""
        loop = asyncio.get_running_loop()
        if not self._round:
            self._round.extend(self.followers)
        left = _SLICE_BYTES
        while self._round and left > 0:
            follower = self._round[0]
            handed = follower.step()
            self._round.popleft()
            left -= handed + _WRITE_BYTES
            if handed and follower.behind:
                self._round.append(follower)
        if self._round:
            self._due = loop.call_soon(self._hand_out)
            return
        self._due = None
        self.batches.clear()
        self._next = loop.time() + min(_LONGEST_PAUSE_SECONDS, _PAUSE_EACH_SECONDS * len(self.followers))
        if self._again:
            self._again = False
            self.tell(ended=self.ended, error=self.error)
