"""In a rush, refusals before work: those who have a place begin a few at a time, in their order.

What begins a generation works for up to a millisecond before it first waits for anything. Where hundreds came in one
turn of the event loop, whoever is refused would be answered behind all of those who are not, and so would whoever
comes meanwhile. With a few in each turn they are answered between them; and those few go on together to the end, in
place of hundreds that are all served last.
"""

import asyncio
from collections import deque

__all__ = ["Doorway"]

_TOGETHER = 16
"""Some milliseconds of work in a turn; and enough for one sync of the disk to carry what many of them store."""


class Doorway:
    """Lets so many through in each turn of the event loop."""

    def __init__(self) -> None:
        self._through = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def go_through(self) -> None:
        """Returns at once, or in a later turn where many came before it."""
        loop = asyncio.get_running_loop()
        if self._through < _TOGETHER and not self._waiting:
            if not self._through:
                loop.call_soon(self._next_turn)
            self._through += 1
            return
        mine = loop.create_future()
        self._waiting.append(mine)
        await mine

    def _next_turn(self) -> None:
        self._through = 0
        while self._waiting and self._through < _TOGETHER:
            first = self._waiting.popleft()
            if not first.done():  # Nor cancelled.
                first.set_result(None)
                self._through += 1
        if self._through:
            asyncio.get_running_loop().call_soon(self._next_turn)
