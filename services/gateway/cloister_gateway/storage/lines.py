"""A few connections to Redis that all of this process share: commands of one turn of the event loop go out together.

A pool gives each command a connection of its own for as long as its answer takes. At a thousand runs that is a
thousand connections, or a queue in front of them in which leases run out. Redis answers a connection's commands in
order, so one connection carries any number of them: what is asked for in one turn of the event loop is joined into
one write, and answers are told apart by their order (implicit pipelining, as ioredis and Centrifugo have it). With 64
callers at once a command costs 15 to 25 µs of CPU here in place of 130 with redis-py's pool, and in Redis, which reads
many at once and syncs them together, 7 in place of 34; with one caller 56 in place of 126.

Where replicas must confirm writes, one WAIT stands at the end of all that goes out together and changes anything; the
answers to those writes are held until it is answered.

A line that fails fails what was sent on it, whose outcome nobody knows, and nothing else. A caller that is cancelled
leaves its command behind; whatever answer it gets is dropped in its turn.
"""

import asyncio
import copy
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cloister_gateway.storage.connections import Confirmation, PlainConnection, TlsConnection, may_write

__all__ = ["Lines"]

Command = Sequence[Any]
Made = PlainConnection | TlsConnection

_MOST_LINES = 4
"""Beside a large reply that is being read on one, the others go on. More of them would only split what is joined."""

_BUSY = 32
"""Groups without an answer on every line, from which on one more line is opened."""


class _Group:
    """Commands whose replies come one after another, and who waits for them.

    Attributes:
        writes: Whether its answer counts only when replicas have confirmed it.
        confirms: The groups that its only command confirms.
    """

    __slots__ = ("confirms", "count", "packed", "replied", "replies", "since", "writes")

    def __init__(self, packed: list[bytes], count: int, *, writes: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.packed = packed
        self.count = count
        self.writes = writes
        self.confirms: Sequence[_Group] = ()
        self.since = loop.time()
        self.replies: list[Any] = []
        self.replied: asyncio.Future[list[Any]] = loop.create_future()

    def answer(self) -> None:
        if not self.replied.done():
            self.replied.set_result(self.replies)

    def fail(self, error: Exception) -> None:
        for group in self.confirms or (self,):  # for a WAIT itself nobody waits
            if not group.replied.done():
                # Each its own: an exception that many await collects all their tracebacks.
                group.replied.set_exception(copy.copy(error))


class _Line(asyncio.Protocol):
    """One connection. redis-py made it (TLS, credentials, the database); from then on its bytes come here."""

    def __init__(self, connection: Made, confirmation: Confirmation, lost: Callable[["_Line"], None]) -> None:
        self._connection = connection
        self._confirmation = confirmation
        self._lost = lost
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=connection._parser.parse_error, notEnoughData=NotImplemented
        )
        self.address = (connection.host, connection.port)
        self.unanswered: deque[_Group] = deque()
        writer = connection._writer
        assert writer is not None
        self._transport = writer.transport
        self._transport.set_protocol(self)

    def send(self, groups: Sequence[_Group]) -> None:
        writing = [group for group in groups if group.writes]
        if writing:
            # One for all: it waits for everything that was written on this connection before.
            wait = _Group(self._connection.pack_plain(self._confirmation.command), 1)
            wait.confirms = writing
            groups = [*groups, wait]
        self.unanswered.extend(groups)
        self._transport.write(b"".join(part for group in groups for part in group.packed))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not NotImplemented:
                if not isinstance(reply, hiredis.PushNotification):
                    self._take(reply)
        except InvalidResponse:
            self.close(RedisConnectionError("Redis sent what is no reply."))
        except ReadOnlyError:
            self.close(RedisConnectionError("The master has become a replica."))

    def _take(self, reply: Any) -> None:
        if not self.unanswered:
            raise InvalidResponse("a reply to nothing")
        if isinstance(reply, ReadOnlyError):
            raise reply  # so that the next line goes to the master
        group = self.unanswered[0]
        group.replies.append(reply)
        if len(group.replies) < group.count:
            return
        self.unanswered.popleft()
        for confirmed in group.confirms:
            confirmed.replies = self._confirmation.judge(confirmed.replies, reply)
            confirmed.answer()
        if not group.writes:
            group.answer()

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(RedisConnectionError("Redis closed the connection."))

    def close(self, error: Exception) -> None:
        """Ends it; what was sent fails with ``error``. Twice is no error."""
        self._lost(self)
        self._transport.abort()
        self._connection._close()  # type: ignore[no-untyped-call]  # or redis-py warns that nobody closed it
        while self.unanswered:
            self.unanswered.popleft().fail(error)


class Lines:
    """Sends groups of commands over shared connections.

    Args:
        make: Makes a connection, not yet connected.
        timeout_seconds: The longest wait for a reply, from when it was asked for.
        confirmation: What makes the answer to a write count.
    """

    def __init__(self, make: Callable[[], Made], *, timeout_seconds: float, confirmation: Confirmation) -> None:
        self._make = make
        self._seconds = timeout_seconds
        self._confirmation = confirmation
        self._packer = make()  # never connected: packing needs no server
        self._lines: list[_Line] = []
        self._outgoing: list[_Group] = []
        self._sending = False
        self._connecting: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to ``commands``, which are sent next to each other; errors are values among them, and so is
        `UnconfirmedError`.

        Raises:
            redis.exceptions.ConnectionError, redis.exceptions.TimeoutError: What became of them is not known.
        """
        loop = asyncio.get_running_loop()
        packed = [part for command in commands for part in self._packer.pack_plain(command)]
        group = _Group(packed, len(commands), writes=self._confirmation.replicas > 0 and may_write(commands))
        self._outgoing.append(group)
        if not self._sending:
            self._sending = True
            loop.call_soon(self._send)
        if self._watch is None:
            self._watch = loop.call_later(self._seconds / 10, self._look)
        return await group.replied

    async def aclose(self) -> None:
        """Closes all lines; whoever still waits gets an error."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        closed = RedisConnectionError("The client was closed.")
        for line in list(self._lines):
            line.close(closed)
        self._drop_outgoing(closed)
        if self._watch is not None:
            self._watch.cancel()

    def _send(self) -> None:
        """Sends all that was asked for in this turn of the event loop, on the line that waits for least."""
        self._sending = False
        line = min(self._lines, key=lambda line: len(line.unanswered), default=None)
        if line is None or (len(line.unanswered) > _BUSY and len(self._lines) < _MOST_LINES):
            self._connect()
        if line is not None:
            # Whose caller was cancelled before it was sent has not happened.
            groups = [group for group in self._outgoing if not group.replied.done()]
            self._outgoing = []
            if groups:
                line.send(groups)

    def _connect(self) -> None:
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._open_line(), name="redis-line")

    async def _open_line(self) -> None:
        connection = self._make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            line = _Line(connection, self._confirmation, self._forget)
            for other in [one for one in self._lines if one.address != line.address]:
                other.close(RedisConnectionError("Another Redis is the master now."))
            self._lines.append(line)
            if self._outgoing:
                self._send()
        except (RedisError, OSError) as error:
            if not self._lines:
                self._drop_outgoing(error)
        except asyncio.CancelledError:
            connection._close()  # type: ignore[no-untyped-call]
            raise
        finally:
            self._connecting = None

    def _forget(self, line: _Line) -> None:
        if line in self._lines:
            self._lines.remove(line)

    def _drop_outgoing(self, error: Exception) -> None:
        outgoing, self._outgoing = self._outgoing, []
        for group in outgoing:
            group.fail(error)

    def _look(self) -> None:
        """Ends what has waited too long: of a line all of it, since the answers come in order."""
        loop = asyncio.get_running_loop()
        late = loop.time() - self._seconds
        error = RedisTimeoutError(f"Redis did not answer within {self._seconds:g} s.")
        for line in list(self._lines):
            if line.unanswered and line.unanswered[0].since < late:
                line.close(error)
        for group in self._outgoing:
            if group.since < late:
                group.fail(error)
        waits = self._outgoing or any(line.unanswered for line in self._lines)
        self._watch = loop.call_later(self._seconds / 10, self._look) if waits else None
