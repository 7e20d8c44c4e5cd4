"""What can be wrong with stored state. Callers are told by `cloister_gateway.wire.faults`, and nowhere else.

    StoreError                    not what was expected; nothing was written
    ├── GoneError                 deleted meanwhile: by now it is as unknown as if it had never been
    │   ├── RecordGoneError       the record of a response
    │   └── LogGoneError          the object that a log belongs to
    ├── LogLockedError            the log is another's
    ├── DamagedError              not what was written (a `VaultError` and a `CloisterError` too)
    │   └── LogDamagedError       a chained log
    ├── DeposedError              `streams.events`: another holder of the run has written past this one
    └── StreamDroppedError        `streams.events`: the run has ended, and its events are kept no longer

    redis.exceptions.RedisError
    ├── ConnectionError, TimeoutError (and OSError)    Redis is away: `storage.client.REDIS_DOWN`
    ├── ClusterDownError, TryAgainError, AskError      a slot of a cluster has no master for now: `REDIS_DOWN` too
    ├── OutOfMemoryError, WritesRefusedError           it takes nothing new for now: with those, `REDIS_AWAY`
    ├── UnconfirmedError                               too few replicas have the write: `REDIS_AWAY` too
    └── any other                                      it refuses: rights taken away, a fault of ours

A master that has become a replica counts as away: `storage.connections` closes the connection to it.

Work that is under way goes on when what is away is back; whoever asked for something new is told at once.
"""

from cloister_common.errors import CloisterError
from cloister_common.vault import VaultError
from redis.exceptions import RedisError, ResponseError

__all__ = [
    "DamagedError",
    "GoneError",
    "LogDamagedError",
    "LogGoneError",
    "LogLockedError",
    "RecordGoneError",
    "StoreError",
    "UnconfirmedError",
    "WritesRefusedError",
]


class StoreError(Exception):
    """What is stored is not what was expected of it."""


class GoneError(StoreError):
    """It was deleted; nothing was written."""


class RecordGoneError(GoneError):
    """The object's record was destroyed; nothing was written."""


class LogGoneError(GoneError):
    """The object was deleted; nothing was written."""


class LogLockedError(StoreError):
    """The log is not the writer's; nothing was written. ``args[0]`` is the run that holds it, empty if none does."""


class DamagedError(StoreError, VaultError, CloisterError):
    """What is stored is not what was written. Nothing of it is served.

    It is a `VaultError` too: a record that is missing is dealt with as one that does not open.

    Args:
        what: Names it for the caller, by its id (``the items of conversation 'conv_…'``).
    """

    code = "stored_data_damaged"

    def __init__(self, what: str) -> None:
        self.what = what
        CloisterError.__init__(
            self,
            f"What is stored of {what} is not what was written: it was altered, cut off or sealed with another key, "
            "so it is not served. The operator's log has the place.",
        )


class LogDamagedError(DamagedError):
    """The stored log is not what was written: an item is missing, moved, altered or cut off. Nothing is served."""


class WritesRefusedError(ResponseError):
    """Redis takes nothing new for now: its disk is full or fails (``MISCONF``), or it has too few replicas."""


class UnconfirmedError(RedisError):
    """The master did what was asked, and too few replicas confirmed it in time: a failover may undo it.

    As after a lost answer, only the caller knows whether doing it again is harmless.
    """

    def __init__(self) -> None:
        super().__init__("too few replicas confirmed the write in time")
