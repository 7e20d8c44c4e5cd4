"""Whether this Redis is there, and keeps what it acknowledged. Asked once, at the start."""

import asyncio
from typing import Any

from cloister_common.logs import get_logger
from cloister_common.settings import SettingsError
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, ResponseError

from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage.client import REDIS_DOWN, nodes_of

__all__ = ["check_durability", "wait_for_redis"]

log = get_logger(__name__)

_DURABLE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
    # Redis replays its append-only file as the default user, and silently leaves out each transaction that this user
    # may not do (redis/redis#14541, valkey-io/valkey#3983): after a restart they are gone.
    "the default user": "unrestricted",
}
_START_PAUSE_SECONDS = 0.2


async def wait_for_redis(redis: Redis, settings: RedisSettings) -> None:
    """Waits until Redis answers, at most ``start_seconds``.

    Raises:
        SettingsError: It does not answer, or refuses the credentials.
    """
    deadline = asyncio.get_running_loop().time() + settings.start_seconds
    while True:
        try:
            for node in await nodes_of(redis):
                await node.ping()
            return
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            raise SettingsError(
                f"{settings.place} refuses the credentials. Check redis.username and redis.password_file."
            ) from error
        except ResponseError as error:
            if "cluster support disabled" in str(error):
                raise SettingsError(f"{settings.place} is no Redis Cluster. Give it in redis.url.") from error
            # Redis says LOADING while it reads its append-only file.
            reason = str(error).split(" ", 1)[0]
        except REDIS_DOWN as error:
            # (What the sentinels had to say stands in the error.)
            reason = type(error).__name__ if settings.sentinel is None else str(error)
        if asyncio.get_running_loop().time() > deadline:
            raise SettingsError(
                f"{settings.place} does not answer ({reason}). Start it, or set {settings.given} to where it is."
            )
        await asyncio.sleep(_START_PAUSE_SECONDS)


async def check_durability(redis: Redis, settings: RedisSettings) -> None:
    """Refuses a Redis that may lose or evict what the gateway acknowledged.

    A managed Redis may forbid ``CONFIG`` or ``INFO``; what then stays unknown is named in a warning.

    Raises:
        SettingsError: A fault was found and ``durability`` is ``required``; or it is of another kind than ``settings``
            say.
    """
    for node in await nodes_of(redis):
        await _check_node(node, settings)


async def _check_node(redis: Redis, settings: RedisSettings) -> None:
    found: dict[str, str] = {}
    try:
        info = await redis.info("all")
        _check_kind(info, settings)
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
            f"{settings.place} may lose what was acknowledged: {', '.join(faults)}. Set appendonly yes, appendfsync "
            "always and maxmemory-policy noeviction, give the default user all permissions (it may be off: 'user "
            "default off ~* &* +@all'), or accept the loss with redis.durability: best_effort."
        )
    log.warning("redis_not_durable", faults=faults)


def _check_kind(info: dict[str, Any], settings: RedisSettings) -> None:
    if info.get("cluster_enabled") and settings.cluster is None:
        raise SettingsError(f"{settings.place} is a node of a Redis Cluster. Give its nodes in redis.cluster.urls.")
    replicas = int(info.get("connected_slaves", settings.replicas_to_wait))
    if replicas < settings.replicas_to_wait:
        # (One may be away for a moment: the start does not fail for it, writes do.)
        log.warning("redis_replicas_missing", connected=replicas, wanted=settings.replicas_to_wait)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
