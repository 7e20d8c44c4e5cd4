"""A network that a test breaks: a TCP proxy on the loopback interface that delays, goes silent, and hangs up.

A cut connection tells both ends at once. A silent one tells nobody: what was sent is acknowledged by the kernel and
arrives nowhere, as behind a router that has lost its state. Silent towards the caller only, a server does what it was
asked and nobody hears of it.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Self

__all__ = ["TcpProxy"]

_PIECE = 65_536


@dataclass(eq=False)
class TcpProxy:
    """Forwards connections to a port. Entered as an asynchronous context manager; all attributes may be changed then.

    Attributes:
        target: The port of the loopback interface that it forwards to.
        delay_seconds: How long each piece rests, in each direction.
        silent_to_target: What callers send goes nowhere, nor do their hang-ups.
        silent_to_caller: The same of what the target answers.
        port: Where it listens.
    """

    target: int
    delay_seconds: float = 0.0
    silent_to_target: bool = False
    silent_to_caller: bool = False
    port: int = 0
    _server: asyncio.Server | None = field(default=None, repr=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, repr=False)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Hangs up on all who are connected, in both directions. They may connect again."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def heal(self) -> None:
        """Forwards again. What went silent meanwhile stays cut: bytes are missing from it."""
        was_silent = self.silent_to_target or self.silent_to_caller
        self.delay_seconds, self.silent_to_target, self.silent_to_caller = 0.0, False, False
        if was_silent:
            await self.cut()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # (A coroutine as the server's callback would be reported as an error when it is cancelled.)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            writers.append(far_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(reader, far_writer, to_target=True))
                group.create_task(self._forward(far_reader, writer, to_target=False))
        except* OSError:
            pass
        finally:
            for each in writers:
                each.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_target: bool) -> None:
        """Until the one who sends hangs up: then raises, so that the other direction ends too."""
        while piece := await reader.read(_PIECE):
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            if self.silent_to_target if to_target else self.silent_to_caller:
                continue
            writer.write(piece)
            await writer.drain()
        while self.silent_to_target if to_target else self.silent_to_caller:
            await asyncio.sleep(0.01)
        with contextlib.suppress(OSError):
            await writer.drain()
        raise ConnectionResetError
