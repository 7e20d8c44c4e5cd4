"""Redis clients, made in one place.

Two kinds, since redis-py 8.1 bounds every read by the pool's ``socket_timeout``, those that wait included:
`command_client` for commands, and `bus_connection` for pub/sub (`cloister_gateway.bus.connection`). Both go to one
Redis, to the master that sentinels name, or to the masters of a cluster, as the settings say.

Commands are never repeated by the client: a write whose answer was lost may have happened, and only its caller knows
whether doing it twice is harmless. An idle connection that Redis closed is replaced before it is used.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from cloister_common.certificates import client_context
from cloister_common.settings import read_secret
from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    OutOfMemoryError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from cloister_gateway.settings import RedisSentinelSettings, RedisSettings
from cloister_gateway.storage.cluster import ClusterClient
from cloister_gateway.storage.connections import (
    Confirmation,
    MasterOf,
    Parser,
    PlainConnection,
    SentinelConnection,
    SentinelTlsConnection,
    TlsConnection,
)
from cloister_gateway.storage.errors import UnconfirmedError, WritesRefusedError
from cloister_gateway.storage.shared import SharedRedis

__all__ = [
    "REDIS_AWAY",
    "REDIS_DOWN",
    "bus_connection",
    "command_client",
    "is_cluster",
    "nodes_of",
    "publishing",
]

REDIS_DOWN = (RedisConnectionError, RedisTimeoutError, OSError, ClusterDownError, TryAgainError, AskError)
"""What a client raises when Redis cannot be reached, or a slot of it, as opposed to when it refuses a command."""

REDIS_AWAY = (*REDIS_DOWN, OutOfMemoryError, WritesRefusedError, UnconfirmedError)
"""What passes by itself: Redis cannot be reached, or takes nothing until there is room. Work under way goes on then."""

_CONNECT_SECONDS = 2.0


def command_client(settings: RedisSettings) -> Redis:
    """A client for commands: bytes in, bytes out, every reply within ``timeout_seconds``. Close it with `aclose`.

    Those who use it share its connections.
    """

    def connect(host: str, port: int) -> Redis:
        return _shared(settings, (host, port))

    if settings.cluster is not None:
        return ClusterClient(_addresses(settings.servers), connect, patience_seconds=settings.timeout_seconds)
    return _shared(settings)


def _shared(settings: RedisSettings, node: tuple[str, int] | None = None) -> Redis:
    """A client of one Redis."""
    return SharedRedis(
        _pool(settings, node, **_command_options(settings)),
        timeout_seconds=settings.timeout_seconds,
        confirmation=Confirmation(settings.replicas_to_wait, settings.wait_milliseconds),
    )


async def nodes_of(redis: Redis) -> Sequence[Redis]:
    """The clients of the single nodes behind a client: all masters of a cluster, or that one Redis."""
    return await redis.masters() if isinstance(redis, ClusterClient) else [redis]


def is_cluster(redis: Redis) -> bool:
    """Whether keys and channels are spread over the masters of a cluster."""
    return isinstance(redis, ClusterClient)


def publishing(redis: Redis, script: str) -> str:
    """A script that publishes, as this Redis wants it: in a cluster to channels of the shard of its keys."""
    return script.replace("'PUBLISH'", "'SPUBLISH'") if is_cluster(redis) else script


def bus_connection(settings: RedisSettings, node: tuple[str, int] | None = None) -> Connection:
    """One connection, not yet made, for pub/sub. RESP2, where subscribed channels answer in plain arrays.

    Args:
        settings: Where Redis is.
        node: Which node of a cluster.
    """
    pool = _pool(settings, node, connections=1, socket_timeout=None, protocol=2)
    return cast("Connection", pool.make_connection())  # type: ignore[no-untyped-call]  # redis-py leaves it untyped


def _command_options(settings: RedisSettings) -> dict[str, Any]:
    return {
        "connections": settings.connections,
        "socket_timeout": settings.timeout_seconds,
        "confirmation": Confirmation(settings.replicas_to_wait, settings.wait_milliseconds),
    }


def _pool(
    settings: RedisSettings, node: tuple[str, int] | None = None, *, connections: int, **arguments: Any
) -> BlockingConnectionPool:
    secure = settings.servers[0].startswith("rediss:")
    connection: type[Connection] = TlsConnection if secure else PlainConnection
    if settings.sentinel is not None:
        connection = SentinelTlsConnection if secure else SentinelConnection
        arguments |= {"master": _master(settings, settings.sentinel), "db": settings.sentinel.database}
    else:
        host, port = node or _addresses(settings.servers)[0]
        database = urlsplit(settings.servers[0]).path.lstrip("/")
        arguments |= {"host": host, "port": port, "db": int(database or 0)}
    return BlockingConnectionPool(
        connection_class=connection,
        max_connections=connections,
        timeout=settings.timeout_seconds,
        parser_class=Parser,
        **_access(settings, settings.username, settings.password_file, "the Redis password"),
        **_SOCKET,
        **arguments,
    )


def _master(settings: RedisSettings, watched: RedisSentinelSettings) -> MasterOf:
    access = _access(settings, watched.username, watched.password_file, "the sentinels' password")
    options = {**access, **_SOCKET, "socket_timeout": _CONNECT_SECONDS}

    def sentinels() -> Sentinel:
        made = Sentinel([])  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        for host, port in _addresses(watched.urls, 26379):
            connection = TlsConnection if "tls" in access else PlainConnection
            pool = BlockingConnectionPool(connection_class=connection, host=host, port=port, **options)
            made.sentinels.append(Redis.from_pool(pool))
        return made

    return MasterOf(sentinels, watched.service)


_SOCKET: dict[str, Any] = {
    "socket_connect_timeout": _CONNECT_SECONDS,
    "retry": Retry(NoBackoff(), 0),
    # With these on, as is the default, redis-py 8.1 does not notice that a pooled connection was closed.
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}


def _access(settings: RedisSettings, username: str | None, password_file: Path | None, what: str) -> dict[str, Any]:
    """What a connection needs to be let in."""
    access: dict[str, Any] = {}
    if password_file is not None:
        access["password"] = read_secret(password_file, what=what, min_bytes=8).decode("utf-8")
    if username is not None:
        access["username"] = username
    if settings.servers[0].startswith("rediss:"):
        # A Redis of others may be older than TLS 1.3.
        access["tls"] = client_context(settings.tls.ca_file, ssl.TLSVersion.TLSv1_2)
    return access


def _addresses(urls: Sequence[str], default_port: int = 6379) -> list[tuple[str, int]]:
    parts = [urlsplit(url) for url in urls]
    return [(part.hostname or "", part.port or default_port) for part in parts]
