"""Connections to one Redis server: what redis-py's do, with what a gateway needs of them changed.

Here is what a write waits for where replicas are configured (`Wait`; on shared connections
`cloister_gateway.storage.lines` waits), and where a master that has become a replica is told from one that refuses.
"""

import asyncio
import math
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import hiredis
from redis.asyncio import Connection, SSLConnection
from redis.asyncio.connection import DefaultParser
from redis.asyncio.sentinel import Sentinel
from redis.connection import HiredisRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cloister_gateway.storage.errors import UnconfirmedError, WritesRefusedError

__all__ = [
    "MasterOf",
    "Parser",
    "PlainConnection",
    "SentinelConnection",
    "SentinelTlsConnection",
    "TlsConnection",
    "Wait",
    "may_write",
]

# What changes nothing, of what the gateway sends. Anything else ends with a WAIT where replicas are waited for, so that
# a command that is forgotten here costs time and no promise.
_READING = (
    "ACL ASKING AUTH CLIENT CLUSTER CONFIG DISCARD EXEC EXISTS GET HELLO HEXISTS HGET HGETALL HLEN HMGET INFO MGET "
    "MULTI PING PTTL PUBLISH PUBSUB SCAN SCARD SCRIPT SELECT SMEMBERS SPUBLISH STRLEN TIME TTL UNWATCH WATCH XINFO "
    "XLEN XRANGE XREVRANGE ZCARD ZRANGE ZRANGEBYSCORE ZSCORE"
)
_READS = frozenset(_READING.split())
_ANSWER_SECONDS = 0.1
"""After a failover all connections of a pool ask at once where the master is."""


class Parser(DefaultParser):  # type: ignore[valid-type,misc] # a variable: hiredis where it is installed
    """Gives the errors a type of their own that redis-py does not tell apart."""

    EXCEPTION_CLASSES: ClassVar[dict[str, Any]] = {
        **DefaultParser.EXCEPTION_CLASSES,
        "MISCONF": WritesRefusedError,
        "NOREPLICAS": WritesRefusedError,
    }


def may_write(commands: Iterable[Sequence[Any]]) -> bool:
    """Whether any of the commands may change anything. (A script may.)"""
    return any(str(command[0]).partition(" ")[0] not in _READS for command in commands)


class Wait(NamedTuple):
    """How many replicas must have what was written before the answer counts, and how long they may take."""

    replicas: int
    milliseconds: int

    @property
    def command(self) -> tuple[str, int, int]:
        """What is sent behind what is written."""
        return ("WAIT", self.replicas, self.milliseconds)

    def is_met(self, reply: Any) -> bool:
        """Whether so many have it. (Where WAIT itself is refused, nothing is known.)"""
        return isinstance(reply, int) and reply >= self.replicas


class _Packed(list[bytes]):
    """Commands as they are sent, which end with a WAIT; ``replies`` is how many come before that one's."""

    replies = 0


class _Commands:
    """What is changed of a connection.

    Args:
        replicas_wait: What is waited for after what may write.
    """

    socket_timeout: float | None
    _packer = HiredisRespSerializer()

    def __init__(self, *, replicas_wait: Wait | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._wait = replicas_wait
        self._unread = 0
        self._read: list[Any] = []

    def pack_command(self, *args: Any) -> list[bytes]:
        return self._confirmed([args]) or self.pack_plainly(*args)

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        listed = [tuple(command) for command in commands]
        packed: list[bytes] | None = self._confirmed(listed)
        return packed or super().pack_commands(listed)  # type: ignore[misc]  # the connection's

    def _confirmed(self, commands: list[tuple[Any, ...]]) -> "_Packed | None":
        """With a WAIT at its end where anything may be written: one for a whole pipeline, since it waits for all."""
        if self._wait is None or not may_write(commands):
            return None
        packed = _Packed(part for command in (*commands, self._wait.command) for part in self.pack_plainly(*command))
        packed.replies = len(commands)
        return packed

    def pack_plainly(self, *command: Any) -> list[bytes]:
        """A command alone, whose sender waits for the replicas.

        Packed in C, in a sixth of the time; redis-py has hiredis do that for its synchronous connections only. What it
        does before, for names of two words and for buffers, takes three times as long as the packing.
        """
        try:
            if " " not in command[0]:
                return [hiredis.pack_command(command)]
        except TypeError:
            pass  # A buffer is in it, or what no command may have in it.
        packed: list[bytes] = self._packer.pack(*command)
        return packed

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Sends with a timeout of its own in place of redis-py's.

        redis-py 8.1 sends inside `asyncio.wait_for`, which in Python 3.11 returns instead of raising when a
        cancellation meets the end of what it waits for. That is each time a task is cancelled just as it sends: the
        task would go on.
        """
        seconds, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(seconds):
                await super().send_packed_command(command, check_health)  # type: ignore[misc]  # the connection's
        except TimeoutError as error:
            raise RedisTimeoutError("Timeout writing to socket") from error
        finally:
            self.socket_timeout = seconds
        # (Only now: sending may have connected first, and read the answers of that.)
        self._read = []
        self._unread = command.replies if isinstance(command, _Packed) else 0

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """The next reply.

        Raises:
            UnconfirmedError: In place of each reply of a group whose writes too few replicas confirmed.
            redis.exceptions.ConnectionError: It is a replica by now; the connection is closed, so that the next one
                goes to the master.
        """
        if self._unread:
            replies, self._unread = self._unread, 0
            read = [await self._reply(*args, **options) for _ in range(replies)]
            confirmed = await self._reply(*args, **options)
            if self._wait is None or not self._wait.is_met(confirmed):
                read = [reply if isinstance(reply, ResponseError) else UnconfirmedError() for reply in read]
            self._read = read
        reply = self._read.pop(0) if self._read else await self._reply(*args, **options)
        if isinstance(reply, ReadOnlyError):
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # the connection's
            raise RedisConnectionError("The master has become a replica.") from reply
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _reply(self, *args: Any, **options: Any) -> Any:
        """The next reply on the wire, an error as a value."""
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]  # the connection's
        except ResponseError as error:
            return error


class PlainConnection(_Commands, Connection):
    """A connection without TLS."""


class TlsConnection(_Commands, SSLConnection):
    """Takes its context from us: redis-py's would trust the system's CAs too, and never look at the file again."""

    def __init__(self, *, tls: ssl.SSLContext, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ssl_context.context = tls


class MasterOf:
    """Where the master of a service is, by its sentinels. All connections of a pool share one.

    Args:
        sentinels: Makes the client of the sentinels. It lives for one question: they are asked only where a connection
            is made.
        service: What the sentinels call it.

    Attributes:
        last: The last address they gave.
    """

    def __init__(self, sentinels: Callable[[], Sentinel], service: str) -> None:
        self._sentinels = sentinels
        self._service = service
        self._asking = asyncio.Lock()
        self._asked_at = -math.inf
        self.last: tuple[str, int] | None = None

    async def find(self) -> tuple[str, int]:
        """Asks the first sentinel that answers; those who come while it is asked share the answer.

        Raises:
            redis.exceptions.ConnectionError: None of them answers, or knows a master that is up.
        """
        clock = asyncio.get_running_loop().time
        async with self._asking:
            if self.last is None or clock() - self._asked_at > _ANSWER_SECONDS:
                async with self._sentinels() as sentinels:
                    self.last = await sentinels.discover_master(self._service)
                self._asked_at = clock()
            return self.last


class _ToMaster:
    """Connects to whichever Redis is the master then."""

    host: str
    port: int
    is_connected: bool

    def __init__(self, *, master: MasterOf, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._master = master

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        # An idle connection to a former master, if that still lives, is not used again.
        if self.is_connected and self._master.last not in (None, (self.host, self.port)):
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # the connection's
        if not self.is_connected:
            self.host, self.port = await self._master.find()
        await super().connect_check_health(*args, **options)  # type: ignore[misc]  # the connection's


class SentinelConnection(_ToMaster, PlainConnection):
    """A connection to the master that sentinels name."""


class SentinelTlsConnection(_ToMaster, TlsConnection):
    """The same with TLS."""
