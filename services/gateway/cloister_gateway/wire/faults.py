"""What callers are told of an exception that is none of ours, on whichever transport it meets them.

The tree of what can be wrong with stored state is drawn in `cloister_gateway.storage.errors`.

VaultError     500  stored_data_damaged   as `cloister_gateway.storage.DamagedError`, where the reader named nothing
RedisError     503  unavailable           Redis is away, or refuses: out of memory, no disk, too few replicas
anything else  500  server_error
"""

from cloister_common.errors import CloisterError, Unavailable
from cloister_common.logs import get_logger
from cloister_common.middleware import unforeseen
from cloister_common.vault import VaultError
from redis.exceptions import OutOfMemoryError, RedisError

from cloister_gateway.storage import DamagedError, is_wrong_type
from cloister_gateway.storage.client import REDIS_DOWN
from cloister_gateway.storage.errors import UnconfirmedError, WritesRefusedError

__all__ = ["fault_of"]

log = get_logger(__name__)


def fault_of(error: Exception, **place: str | None) -> CloisterError:
    """The error to tell, logged with ``place`` (ids, a route; never content) where an operator must know of it."""
    if isinstance(error, VaultError) or is_wrong_type(error):
        damaged = error if isinstance(error, DamagedError) else DamagedError("what this request needs")
        log.error("stored_data_damaged", what=damaged.what, exc_info=damaged.__cause__ or error, **place)
        return damaged
    if isinstance(error, CloisterError):
        return error
    if isinstance(error, (*REDIS_DOWN, RedisError)):
        if not isinstance(error, REDIS_DOWN):
            log.error("store_refused", exc_info=error, **place)
        return _store_unavailable(error)
    return unforeseen(error)


def _store_unavailable(error: Exception) -> Unavailable:
    """What a caller is told while Redis cannot be reached, or refuses what was asked with ``error``."""
    if isinstance(error, OutOfMemoryError | WritesRefusedError | UnconfirmedError):
        return Unavailable(
            "The state store takes nothing new: its disk or its memory is full, or it has too few replicas. What is "
            "stored can be read; all goes on by itself when its operator has made room.",
            retry_after=10,
        )
    return Unavailable("The state store does not answer. Try again in a moment.", retry_after=2)
