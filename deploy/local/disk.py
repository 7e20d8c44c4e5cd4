"""Keeps Redis from the end of its disk.

With ``appendfsync always`` Redis ends itself at the first write that its disk does not take, and then nobody can read
either. So the runner closes it before: below the floor Redis refuses every write (``NOREPLICAS``: it is told to want a
replica, and it has none) and goes on to answer what only reads, and it is opened when there is room again. It starts
closed (`redis_configuration`), so that a Redis that is started again on a full disk takes nothing before somebody has
looked. A memory limit would not do: over it, Redis refuses transactions that only read, too.

Keys still expire while it is closed, and that is written down. And a disk may fill between two looks. For both the
runner reserves room behind the end of the append-only file, which nobody else can take.
"""

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable
from pathlib import Path

from cloister_common.disk import DiskFloor

from deploy.local.readiness import redis_commands, redis_probe

__all__ = ["CLOSED", "RedisGuard", "reserve"]

CLOSED = "min-replicas-to-write 1"
_OPEN = "min-replicas-to-write 0"
_LOOK_SECONDS = 0.2
_MIB = 1 << 20
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE, <linux/falloc.h>
_MOST_RESERVED_BYTES = 64 * _MIB
_RESERVED_PART = 2
"""Of the floor: the rest of it stays for everybody."""
_TIMES_TO_OPEN = 1.1
"""The floor: a little more than what closes, so that a disk that stands at its floor does not open and close it."""
_libc = ctypes.CDLL(None, use_errno=True)


class RedisGuard:
    """Opens and closes one Redis.

    Args:
        floor: What must stay free on the disk of its folder.
        port: Where it listens on loopback.
        password: Its password.
        say: Prints a line.
    """

    def __init__(self, floor: DiskFloor, port: int, password: str, say: Callable[[str], None]) -> None:
        self._floor = floor
        self._port = port
        self._password = password
        self._say = say
        self._closed = False
        self._told: bool | None = None

    async def probe(self) -> str | None:
        """Redis answers and was told whether it may take data; the reason while it was not."""
        return await redis_probe(self._port, self._password)() or await self._tell(anew=True)

    async def watch(self) -> None:
        """Looks at the disk for as long as the stack runs."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._look()
            await self._tell()

    def _look(self) -> None:
        try:
            missing = self._floor.missing(_TIMES_TO_OPEN if self._closed else 1.0)
            with contextlib.suppress(FileNotFoundError):  # Redis has just written its file anew
                reserve(self._floor.folder, min(_MOST_RESERVED_BYTES, self._floor.bytes() // _RESERVED_PART))
        except OSError:
            missing = 1  # a folder that cannot even be looked at takes nothing
        if self._closed == (missing > 0):
            return
        self._closed = missing > 0
        if self._closed:
            self._say(
                f"the disk of {self._floor.folder} is almost full ({missing / _MIB:.1f} MiB below its floor, "
                "disk.min_free_mib): nothing new is stored until there is room; what is stored can be read"
            )
        else:
            self._say(f"there is room again on the disk of {self._floor.folder}: everything is taken as before")

    async def _tell(self, *, anew: bool = False) -> str | None:
        """Sets Redis as the disk wants it, if it is not; after a start it always has to be told."""
        if anew:
            self._look()
        elif self._told == self._closed:
            return None
        closed = self._closed
        value = CLOSED if closed else _OPEN
        answers = await redis_commands(self._port, self._password, f"CONFIG SET {value}")
        if answers == ["+OK"]:
            self._told = closed
            return None
        self._told = None
        return answers[0]


def reserve(folder: Path, size: int) -> None:
    """Sees to it that Redis can append ``size`` bytes to its file whatever happens on the disk.

    The blocks belong to the file but lie behind its end, so that Redis reads nothing of them. Where the disk is full
    already, or its filesystem cannot do that, there is no reserve: then Redis may end on a full disk, and is started
    again, closed.
    """
    files = [*folder.glob("appendonlydir/*.incr.aof"), *folder.glob("appendonly.aof")]
    if not files:
        return
    with max(files, key=lambda file: file.stat().st_mtime_ns).open("rb+") as file:
        status = os.fstat(file.fileno())
        if status.st_blocks * 512 - status.st_size < size // 2:
            _libc.fallocate(file.fileno(), _KEEP_SIZE, ctypes.c_int64(status.st_size), ctypes.c_int64(size))
