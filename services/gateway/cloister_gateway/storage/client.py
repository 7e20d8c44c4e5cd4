"""Redis clients, made in one place, and the check that this Redis keeps what it acknowledged.

Two clients, since redis-py 8.1 bounds every read by the pool's ``socket_timeout``, those that wait included:
`command_client` for commands, and `bus_connection` for the one pub/sub connection of the process
(`cloister_gateway.bus.connection`).

Commands are never repeated by the client: a write whose answer was lost may have happened, and only its caller knows
whether doing it twice is harmless. An idle connection that Redis closed is replaced before it is used.
"""

import asyncio
import ssl
from typing import Any, ClassVar, cast

from cloister_common.certificates import client_context
from cloister_common.logs import get_logger
from cloister_common.settings import SettingsError, read_secret
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.connection import DefaultParser
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    OutOfMemoryError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage.errors import WritesRefusedError
from cloister_gateway.storage.shared import SharedRedis

__all__ = [
    "REDIS_AWAY",
    "REDIS_DOWN",
    "bus_connection",
    "check_durability",
    "command_client",
    "wait_for_redis",
]

log = get_logger(__name__)

REDIS_DOWN = (RedisConnectionError, RedisTimeoutError, OSError)
"""What a client raises when Redis cannot be reached, as opposed to what it raises when it refuses a command."""


REDIS_AWAY = (*REDIS_DOWN, OutOfMemoryError, WritesRefusedError)
"""What passes by itself: Redis cannot be reached, or takes nothing until there is room. Work under way goes on then."""

_DURABLE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
    # Redis replays its append-only file as the default user, and silently leaves out each transaction that this user
    # may not do (redis/redis#14541, valkey-io/valkey#3983): after a restart they are gone.
    "the default user": "unrestricted",
}
_CONNECT_SECONDS = 2.0
_START_PAUSE_SECONDS = 0.2


class _Sender:
    """Sends with a timeout of its own in place of redis-py's, and packs in C what redis-py packs in Python.

    hiredis takes a sixth of the time; redis-py has it pack for its synchronous connections only.

    redis-py 8.1 sends inside `asyncio.wait_for`, which in Python 3.11 returns instead of raising when a cancellation
    meets the end of what it waits for. That is each time a task is cancelled just as it sends: the task would go on.
    """

    socket_timeout: float | None
    _packer = HiredisRespSerializer()

    def pack_command(self, *args: Any) -> list[bytes]:
        packed: list[bytes] = self._packer.pack(*args)
        return packed

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        seconds, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(seconds):
                await super().send_packed_command(command, check_health)  # type: ignore[misc]  # the connection's
        except TimeoutError as error:
            raise RedisTimeoutError("Timeout writing to socket") from error
        finally:
            self.socket_timeout = seconds


class _Parser(DefaultParser):  # type: ignore[valid-type,misc] # a variable: hiredis where it is installed
    """Gives the errors a type of their own that redis-py does not tell apart."""

    EXCEPTION_CLASSES: ClassVar[dict[str, Any]] = {
        **DefaultParser.EXCEPTION_CLASSES,
        "MISCONF": WritesRefusedError,
        "NOREPLICAS": WritesRefusedError,
    }


class _Connection(_Sender, Connection):
    pass


class _TlsConnection(_Sender, SSLConnection):
    """Takes its context from us: redis-py's would trust the system's CAs too, and never look at the file again."""

    def __init__(self, *, tls: ssl.SSLContext, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ssl_context.context = tls


def command_client(settings: RedisSettings) -> Redis:
    """A client for commands: bytes in, bytes out, every reply within ``timeout_seconds``. Callers share connections."""
    pool = _pool(settings, settings.connections, socket_timeout=settings.timeout_seconds)
    return SharedRedis(pool, timeout_seconds=settings.timeout_seconds)


def bus_connection(settings: RedisSettings) -> Connection:
    """One connection, not yet made, for pub/sub. RESP2, where subscribed channels answer in plain arrays."""
    pool = _pool(settings, 1, socket_timeout=None, protocol=2)
    return cast("Connection", pool.connection_class(**pool.connection_kwargs))


def _pool(settings: RedisSettings, connections: int, **arguments: Any) -> BlockingConnectionPool:
    if settings.password_file is not None:
        password = read_secret(settings.password_file, what="the Redis password", min_bytes=8)
        arguments["password"] = password.decode("utf-8")
    if settings.username is not None:
        arguments["username"] = settings.username
    secure = settings.url.startswith("rediss:")
    if secure:
        # A Redis of others may be older than TLS 1.3.
        arguments["tls"] = client_context(settings.tls.ca_file, ssl.TLSVersion.TLSv1_2)
    pool = BlockingConnectionPool.from_url(
        settings.url,
        max_connections=connections,
        timeout=settings.timeout_seconds,
        socket_connect_timeout=_CONNECT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        # With these on, as is the default, redis-py 8.1 does not notice that a pooled connection was closed.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        parser_class=_Parser,
        **arguments,
    )
    pool.connection_class = _TlsConnection if secure else _Connection
    return pool


async def wait_for_redis(redis: Redis, settings: RedisSettings) -> None:
    """Waits until Redis answers, at most ``start_seconds``.

    Raises:
        SettingsError: It does not answer, or refuses the credentials.
    """
    deadline = asyncio.get_running_loop().time() + settings.start_seconds
    while True:
        try:
            await redis.ping()
            return
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            raise SettingsError(
                f"Redis at {settings.url} refuses the credentials. Check redis.username and redis.password_file."
            ) from error
        except ResponseError as error:
            # Redis says LOADING while it reads its append-only file.
            reason = str(error).split(" ", 1)[0]
        except REDIS_DOWN as error:
            reason = type(error).__name__
        if asyncio.get_running_loop().time() > deadline:
            raise SettingsError(
                f"Redis at {settings.url} does not answer ({reason}). Start it, or set redis.url to where it is."
            )
        await asyncio.sleep(_START_PAUSE_SECONDS)


async def check_durability(redis: Redis, settings: RedisSettings) -> None:
    """Refuses a Redis that may lose or evict what the gateway acknowledged.

    A managed Redis may forbid ``CONFIG`` or ``INFO``; what then stays unknown is named in a warning.

    Raises:
        SettingsError: A fault was found and ``durability`` is ``required``.
    """
    found: dict[str, str] = {}
    try:
        info = await redis.info("all")
        found["appendonly"] = "yes" if info.get("aof_enabled") else "no"
        found["maxmemory-policy"] = str(info.get("maxmemory_policy", "noeviction"))
        reply = await redis.config_get("appendfsync")
        found["appendfsync"] = _text(next(iter(reply.values()), b""))
        allowed = await redis.execute_command("ACL", "DRYRUN", "default", "XADD", "stream", "*", "field", "value")  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        found["the default user"] = "unrestricted" if _text(allowed) == "OK" else "restricted"
    except ResponseError as error:
        log.warning("redis_settings_unreadable", unknown=sorted(_DURABLE.keys() - found), error=type(error).__name__)
    faults = [f"{name} is {found[name]}" for name, value in _DURABLE.items() if found.get(name, value) != value]
    if not faults:
        return
    if settings.durability == "required":
        raise SettingsError(
            f"Redis at {settings.url} may lose what was acknowledged: {', '.join(faults)}. Set appendonly yes, "
            "appendfsync always and maxmemory-policy noeviction, give the default user all permissions (it may be off: "
            "'user default off ~* &* +@all'), or accept the loss with redis.durability: best_effort."
        )
    log.warning("redis_not_durable", faults=faults)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
