"""A few connections to Redis that all of this process share: commands of one turn of the event loop go out together.

A pool gives each command a connection of its own for as long as its answer takes. At a thousand runs that is a
thousand connections, or a queue in front of them in which leases run out. Redis answers a connection's commands in
order, so one connection carries any number of them: what is asked for in one turn of the event loop is joined into
one write, and answers are told apart by their order (implicit pipelining, as ioredis and Centrifugo have it). With 64
callers at once a command costs 15 to 25 µs of CPU here in place of 130 with redis-py's pool, and in Redis, which reads
many at once and syncs them together, 7 in place of 34; with one caller 56 in place of 126.

A line that fails fails what was sent on it, whose outcome nobody knows, and nothing else. A caller that is cancelled
leaves its command behind; whatever answer it gets is dropped in its turn.
"""

import asyncio
import copy
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cloister_gateway.storage.connections import Wait, may_write
from cloister_gateway.storage.errors import UnconfirmedError

__all__ = ["Lines"]

Command = Sequence[Any]

_MOST_LINES = 4
"""Beside a large reply that is being read on one, the others go on. More of them would only split what is joined."""

_BUSY = 32
"""Groups without an answer on every line, from which on one more line is opened."""


class _Group:
    """Commands whose replies come one after another, and who waits for them."""

    __slots__ = ("confirms", "count", "packed", "replied", "replies", "since", "writes")

    def __init__(self, packed: list[bytes], count: int, loop: asyncio.AbstractEventLoop, *, writes: bool) -> None:
        self.packed = packed
        self.count = count
        self.since = loop.time()
        self.writes = writes
        # What a WAIT is for: groups that have their replies, which count when its own has come.
        self.confirms: list[_Group] = []
        self.replies: list[Any] = []
        self.replied: asyncio.Future[list[Any]] = loop.create_future()

    def succeed(self) -> None:
        if not self.replied.done():
            self.replied.set_result(self.replies)

    def fail(self, error: Exception) -> None:
        for group in self.confirms:
            group.fail(error)
        # (For a WAIT itself nobody waits.)
        if not self.confirms and not self.replied.done():
            # Each its own: an exception that many await collects all their tracebacks.
            self.replied.set_exception(copy.copy(error))


class _Line(asyncio.Protocol):
    """One connection. redis-py made it (TLS, credentials, the database); from then on its bytes come here.

    Where replicas are waited for, one WAIT follows what is sent together, if anything in it may write.
    """

    def __init__(self, connection: Connection, lost: Callable[["_Line"], None], wait: Wait | None) -> None:
        self._connection = connection
        self._lost = lost
        self._wait = wait
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=connection._parser.parse_error, notEnoughData=NotImplemented
        )
        self.unanswered: deque[_Group] = deque()
        writer = connection._writer
        assert writer is not None
        self._transport = writer.transport
        self._transport.set_protocol(self)

    def send(self, groups: Sequence[_Group]) -> None:
        sent = list(groups)
        written = [group for group in groups if group.writes] if self._wait is not None else []
        if self._wait is not None and written:
            confirming = _Group(
                _packed(self._connection, self._wait.command), 1, asyncio.get_running_loop(), writes=False
            )
            confirming.confirms = written
            sent.append(confirming)
        self.unanswered.extend(sent)
        self._transport.write(b"".join(part for group in sent for part in group.packed))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not NotImplemented:
                if not isinstance(reply, hiredis.PushNotification):
                    self._take(reply)
        except InvalidResponse:
            self.close(RedisConnectionError("Redis sent what is no reply."))

    def _take(self, reply: Any) -> None:
        if not self.unanswered:
            raise InvalidResponse("a reply to nothing")
        if isinstance(reply, ReadOnlyError):
            # What was sent on it is lost as with the connection; the next line goes to the master.
            self.close(RedisConnectionError("The master has become a replica."))
            return
        group = self.unanswered[0]
        group.replies.append(reply)
        if len(group.replies) == group.count:
            self.unanswered.popleft()
            if self._wait is None or not group.writes:
                group.succeed()
            for written in group.confirms:
                if (self._wait is not None and self._wait.is_met(reply)) or all(map(_is_error, written.replies)):
                    written.succeed()
                else:
                    written.fail(UnconfirmedError())

    def connection_lost(self, exc: Exception | None) -> None:
        # (asyncio's transports over TLS fail where they are aborted now.)
        self._end(RedisConnectionError("Redis closed the connection."))

    def close(self, error: Exception) -> None:
        """Ends it; what was sent fails with ``error``."""
        self._transport.abort()
        self._end(error)

    def _end(self, error: Exception) -> None:
        self._lost(self)
        self._connection._close()  # type: ignore[no-untyped-call]  # or redis-py warns that nobody closed it
        while self.unanswered:
            self.unanswered.popleft().fail(error)


def _packed(connection: Any, command: Command) -> list[bytes]:
    """A command as it is sent, and without the WAIT that a connection by itself would add."""
    packed: list[bytes] = connection.pack_plainly(*command)
    return packed


def _is_error(reply: Any) -> bool:
    return isinstance(reply, Exception)


class Lines:
    """Sends groups of commands over shared connections.

    Args:
        make: Makes a connection, not yet connected.
        timeout_seconds: The longest wait for a reply, from when it was asked for.
        wait: The replicas that must have what is written before it counts, if any.
    """

    def __init__(self, make: Callable[[], Connection], *, timeout_seconds: float, wait: Wait | None = None) -> None:
        self._make = make
        self._seconds = timeout_seconds
        self._wait = wait
        self._packer = make()  # never connected: packing needs no server
        self._lines: list[_Line] = []
        self._outgoing: list[_Group] = []
        self._sending = False
        self._connecting: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to ``commands``, which are sent next to each other; errors of Redis are values among them.

        Raises:
            redis.exceptions.ConnectionError, redis.exceptions.TimeoutError: What became of them is not known, or Redis
                answers none of them now: it loads its data, for example.
            UnconfirmedError: They were done, and too few replicas confirmed it.
        """
        loop = asyncio.get_running_loop()
        packed = [part for command in commands for part in _packed(self._packer, command)]
        group = _Group(packed, len(commands), loop, writes=self._wait is not None and may_write(commands))
        self._outgoing.append(group)
        if not self._sending:
            self._sending = True
            loop.call_soon(self._send)
        if self._watch is None:
            self._watch = loop.call_later(self._seconds / 10, self._look)
        replies = await group.replied
        for reply in replies:
            # redis-py takes LOADING and NOAUTH for a lost connection, whatever the caller does with errors. As a value
            # it would be read as what is stored, and that as damaged.
            if isinstance(reply, RedisConnectionError):
                raise reply
        return replies

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
        began = asyncio.get_running_loop().time()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            self._lines.append(_Line(connection, self._forget, self._wait))
            if self._outgoing:
                self._send()
        except (RedisError, OSError) as error:
            if not self._lines:
                # Who came since gets an attempt of its own: this one may have met a Redis that stood still.
                self._drop_outgoing(error, before=began)
        except asyncio.CancelledError:
            connection._close()  # type: ignore[no-untyped-call]
            raise
        finally:
            self._connecting = None
        if self._outgoing:
            self._connect()

    def _forget(self, line: _Line) -> None:
        if line in self._lines:
            self._lines.remove(line)

    def _drop_outgoing(self, error: Exception, *, before: float = math.inf) -> None:
        """Fails what has not been sent yet, of what was asked for until then."""
        dropped = [group for group in self._outgoing if group.since <= before]
        self._outgoing = [group for group in self._outgoing if group.since > before]
        for group in dropped:
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
