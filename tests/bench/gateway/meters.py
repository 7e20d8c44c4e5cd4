"""What processes and Redis did between two moments: read from the kernel and from ``INFO``, not from a clock.

On a machine that others use too, seconds of the clock are noise. Seconds of the processor are not, or little.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tests.support.redis_server import RedisServer

__all__ = ["Meter", "Usage", "cpu_seconds", "resident_bytes"]

_PROCESSOR_CLOCK = 2  # CPUCLOCK_SCHED of clock_getcpuclockid(3): all threads of a process, in nanoseconds
_SCRIPTS = frozenset({"eval", "evalsha", "fcall"})
_LOOKS = 200
"""So often a moment is looked for in which Redis serves nobody: what it wrote to clients and what it wrote in all are
read one after the other, and what it writes in between would be counted as a sync, or as one that is missing."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used up to a moment; the difference of two is what was used between them.

    Attributes:
        seconds: Of the clock.
        cpu: Seconds of the processor that the subject took, with all its children.
        redis_cpu: Those of its Redis.
        trips: What Redis read from its clients at once: a command, a script, or a pipeline of them.
        commands: Commands, each of a pipeline and of a script too.
        scripts: Scripts.
        syncs: Writes of the append-only file, each followed by a sync of the disk (``appendfsync always``): what
            Redis wrote in all, without what it wrote to its clients.
        sent: Bytes that Redis sent.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    redis_cpu: float = 0.0
    trips: float = 0.0
    commands: float = 0.0
    scripts: float = 0.0
    syncs: float = 0.0
    sent: float = 0.0

    def parts(self) -> tuple[float, ...]:
        """All of them, in their order."""
        return tuple(getattr(self, one.name) for one in fields(self))

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(*(one - two for one, two in zip(self.parts(), other.parts(), strict=True)))

    def __mul__(self, number: float) -> "Usage":
        return Usage(*(one * number for one in self.parts()))

    def __truediv__(self, number: float) -> "Usage":
        return self * (1 / number)


class Meter:
    """Reads what a process and its Redis used. What the reading itself takes of Redis is not counted.

    Args:
        pid: The process.
        redis: Its Redis, if it has one.
    """

    def __init__(self, pid: int, redis: RedisServer | None) -> None:
        self._pid = pid
        self._redis = redis
        self._client = None if redis is None else redis.client()
        self._own = 0

    def read(self) -> Usage:
        """What was used up to now."""
        if self._redis is None or self._client is None:
            return Usage(time.perf_counter(), cpu_seconds(self._pid))
        said, written = self._still(self._redis.pid)
        return Usage(
            seconds=time.perf_counter(),
            cpu=cpu_seconds(self._pid),
            redis_cpu=cpu_seconds(self._redis.pid),
            trips=said["total_reads_processed"] - self._own,
            commands=_commands(said) - self._own,
            scripts=sum(count for name, count in _calls(said).items() if name in _SCRIPTS),
            syncs=written - said["total_writes_processed"],
            sent=said["total_net_output_bytes"],
        )

    def _still(self, pid: int) -> tuple[dict[str, Any], int]:
        """What Redis says, and how often it wrote, of one moment: nobody else was served shortly before it either."""
        earlier, before = self._info(), self._info()
        for _ in range(_LOOKS):
            written = _written(pid)
            now = self._info()
            if _commands(now) == _commands(earlier) + 2:
                break
            earlier, before = before, now
        return now, written

    def _info(self) -> dict[str, Any]:
        assert self._client is not None
        self._own += 1  # In one command and one connection, so that it is one trip.
        return self._client.info("stats", "commandstats")

    def close(self) -> None:
        """Lets go of its connection."""
        if self._client is not None:
            self._client.close()


def cpu_seconds(pid: int) -> float:
    """Seconds of the processor that a process and its children took so far."""
    return sum(time.clock_gettime((~one << 3) | _PROCESSOR_CLOCK) for one in _family(pid))


def resident_bytes(pid: int) -> int:
    """The memory of a process and its children that no file backs: what it would need alone."""
    lines = [line for one in _family(pid) for line in Path(f"/proc/{one}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def _family(pid: int) -> Iterable[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))


def _calls(said: dict[str, Any]) -> dict[str, int]:
    """How often each command was called."""
    return {name.removeprefix("cmdstat_"): one["calls"] for name, one in said.items() if name.startswith("cmdstat_")}


def _commands(said: dict[str, Any]) -> int:
    return sum(_calls(said).values())


def _written(pid: int) -> int:
    """How often a process wrote, to files and sockets alike."""
    lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(lines["syscw"])
