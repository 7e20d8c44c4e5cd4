"""What goes out on one socket: whole frames, written at once while the client reads, and held back while it does not.

No task writes and nothing waits in a queue here. Events wait in their feed, which hands them on when there is room
again; what answers the client waits in the task that answers, so that whoever does not read asks for nothing more.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from cloister_common.doors.frame_writer import FrameWriter
from cloister_common.doors.frames import text_frames

from cloister_gateway.streams.fanout import Batch, Follower
from cloister_gateway.wire.events import in_lane

__all__ = ["Outlet"]

_LOOKS = 4
"""How often a socket without room is looked at before its time is over: it ends up to a quarter of the time late."""


class Outlet:
    """The way out of one socket. A `Reader` of all feeds it follows, whose ways are the names of its lanes.

    Args:
        writer: The socket's.
        patience: Seconds that something may wait for a client that does not read.
        give_up: Called when it has waited so long.
    """

    __slots__ = ("_answers", "_followers", "_give_up", "_looks", "_patience", "_timer", "_writer", "has_room")

    def __init__(self, writer: FrameWriter, *, patience: float, give_up: Callable[[], None]) -> None:
        self._writer = writer
        self._patience = patience
        self._give_up = give_up
        self._followers: dict[Follower, None] | None = None
        self._answers: deque[tuple[bytes, asyncio.Future[None]]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looks = 0
        self.has_room = True
        writer.on_room = self._go_on

    def close(self) -> None:
        """Nothing goes out any more."""
        self._writer.on_room = None
        self._stop_looking()

    async def send(self, event: bytes, stream_id: str | None) -> None:
        """Sends one event; returns when there was room for it, or the client has gone."""
        frames = _frames([event], stream_id)
        if self.has_room or self._writer.gone:
            self._write(frames)
            return
        sent = asyncio.get_running_loop().create_future()
        if self._answers is None:
            self._answers = deque()
        self._answers.append((frames, sent))
        await sent

    @contextmanager
    def follower(self, stream_id: str | None, *, after: int) -> Iterator[Follower]:
        """A place in the events of a response, which go out in the lane ``stream_id``."""
        follower = Follower(self, way=stream_id, after=after)
        if self._followers is None:
            self._followers = {}
        self._followers[follower] = None
        try:
            yield follower
        finally:
            del self._followers[follower]

    def take(self, batch: Batch, way: str | None) -> None:
        """Sends events. Those for whom they are in the same lane send the same bytes."""
        frames = batch.made.get(way)
        if frames is None:
            frames = batch.made[way] = _frames(batch.events, way)
        self._write(frames)

    def _write(self, frames: bytes) -> None:
        if not self._writer.write(frames):
            self.has_room = False
            if self._timer is None:
                self._looks = 0
                self._look_later()

    def _go_on(self) -> None:
        """There is room again: for the answers that wait, then for what is followed, one after the other."""
        self.has_room = True
        self._stop_looking()
        while self._answers and (self.has_room or self._writer.gone):
            frames, sent = self._answers.popleft()
            if not sent.done():  # Else nobody waits for it any more.
                sent.set_result(None)
                self._write(frames)
        followers = self._followers or {}
        for follower in tuple(followers):
            if not self.has_room:
                break
            # To the end of the line, so that a busy lane does not keep the others waiting.
            followers[follower] = followers.pop(follower)
            follower.go_on()

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._patience / _LOOKS, self._look)

    def _look(self) -> None:
        waits = bool(self._answers) or any(follower.behind for follower in self._followers or ())
        self._looks = self._looks + 1 if waits else 0
        if self._looks > _LOOKS:
            self._give_up()
        else:
            self._look_later()

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _frames(events: Sequence[bytes], stream_id: str | None) -> bytes:
    return text_frames(in_lane(events, stream_id))
