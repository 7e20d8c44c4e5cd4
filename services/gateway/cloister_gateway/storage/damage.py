"""Stored data that is not what was written: one error for all of it, which names what is damaged and never shows it.

Whoever can write to Redis, and a disk that fails, can take any field, entry or key away, cut it, swap it or put
something else in its place. Every reader of stored state reads inside `damage_told`, so that each of these is this
error and none a `TypeError` far from its cause. What was deleted as a whole is not damaged, but gone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from cloister_common.vault import VaultError
from redis.exceptions import ResponseError

from cloister_gateway.storage.errors import DamagedError

__all__ = ["damage_told", "is_wrong_type"]


@contextmanager
def damage_told(what: str, told: type[DamagedError] = DamagedError) -> Iterator[None]:
    """Raises ``told`` for whatever the block finds in Redis that nobody wrote there.

    Only for blocks that read and open: a missing field is a `KeyError` or `TypeError`, a cut one a `ValueError`, a
    sealed one that was touched a `VaultError`, and a key of another type is refused by Redis.
    """
    try:
        yield
    except DamagedError:
        raise
    except (VaultError, KeyError, TypeError, ValueError) as error:
        raise told(what) from error
    except ResponseError as error:
        if not is_wrong_type(error):
            raise
        raise told(what) from error


def is_wrong_type(error: Exception) -> bool:
    """Whether Redis refused a command because something of another type stands under the key."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)
