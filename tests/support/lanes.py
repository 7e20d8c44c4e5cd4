"""Runs the parts of the test suite side by side: what waits beside what computes. See `tests.support.suite`.

Each part is a process of its own whose output is kept, and shown whole when it ends; a line now and then says what is
running. Which may not run together, their traits say.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

__all__ = ["CLASHES", "Lanes", "Part", "Result", "table"]

CLASHES: tuple[tuple[str, str], ...] = (
    ("vllm", "vllm"),  # a model takes every core and gigabytes
    ("disk", "fsync"),  # gigabytes on their way to the disk make Redis wait for its own few bytes
)
"""Pairs of traits of which one part must not have the one while another has the other."""

_LOOK_SECONDS = 0.1
_PROGRESS_SECONDS = 30.0
_END_SECONDS = 60.0
"""How long a part may take to end its own servers after Ctrl-C."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One process.

    Attributes:
        name: Its name in the table.
        command: What is run, and what a person runs to have this part alone.
        traits: What `CLASHES` speaks of.
    """

    name: str
    command: tuple[str, ...]
    traits: frozenset[str] = frozenset()

    def clashes_with(self, other: "Part") -> bool:
        """Whether the two must not run at the same time."""
        return any(
            (one in self.traits and two in other.traits) or (two in self.traits and one in other.traits)
            for one, two in CLASHES
        )


@dataclasses.dataclass(frozen=True)
class Result:
    """How a part ended. Times in seconds; ``processor`` is that of the part and all that it started and waited for."""

    part: Part
    code: int
    seconds: float
    processor: float
    output: Path


@dataclasses.dataclass(eq=False)
class _Running:
    part: Part
    process: subprocess.Popen[bytes]
    output: Path
    since: float


class Lanes:
    """Runs parts, a few at a time, in their order where nothing clashes.

    Args:
        lanes: How many at a time.
        keep_going: Whether parts begin after one has failed.
        say: Takes what people read.
    """

    def __init__(self, lanes: int, *, keep_going: bool, say: Callable[[str], None]) -> None:
        self._lanes = lanes
        self._keep_going = keep_going
        self._say = say
        self._folder = Path(tempfile.mkdtemp(prefix="cloister-tests-"))
        self._running: list[_Running] = []
        self._results: list[Result] = []
        self._told = 0.0
        self._signal = 0

    def run(self, parts: Sequence[Part]) -> list[Result]:
        """Runs them and returns how they ended, in the order in which they did.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM came. Everything has been ended.
        """
        waiting = list(parts)
        usual = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while (waiting or self._running) and not self._signal:
                if self._keep_going or not self._failed():
                    self._begin(waiting)
                elif not self._running:
                    break
                self._collect()
                self._tell()
                time.sleep(_LOOK_SECONDS)
        finally:
            self._end_all()
            for number, handler in usual.items():
                signal.signal(number, handler)
        if self._signal:
            raise KeyboardInterrupt
        return self._results

    def _failed(self) -> bool:
        return any(result.code for result in self._results)

    def _begin(self, waiting: list[Part]) -> None:
        for part in list(waiting):
            if len(self._running) == self._lanes:
                return
            if any(part.clashes_with(other.part) for other in self._running):
                continue
            waiting.remove(part)
            output = self._folder / part.name
            with output.open("wb") as file:
                # In a session of its own: Ctrl-C is passed on once, and to all that it started.
                process = subprocess.Popen(
                    part.command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
                )
            self._running.append(_Running(part, process, output, time.monotonic()))
            self._told = 0.0

    def _collect(self) -> None:
        for running in list(self._running):
            pid, status, usage = os.wait4(running.process.pid, os.WNOHANG)
            if pid == 0:
                continue
            self._running.remove(running)
            code = running.process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - running.since
            result = Result(running.part, code, seconds, usage.ru_utime + usage.ru_stime, running.output)
            self._results.append(result)
            self._say(f"\n---- {running.part.name}: {'ok' if code == 0 else 'FAILED'} after {_clock(seconds)}")
            self._say(running.output.read_text(encoding="utf-8", errors="replace").rstrip())
            self._told = 0.0

    def _tell(self) -> None:
        if self._running and time.monotonic() - self._told >= _PROGRESS_SECONDS:
            first, self._told = self._told == 0, time.monotonic()
            names = ", ".join(
                f"{running.part.name} ({_clock(self._told - running.since)})" for running in self._running
            )
            where = f"; what they print: {self._folder}" if first and not self._results else ""
            self._say(f"---- running: {names}{where}")

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._signal = number

    def _end_all(self) -> None:
        """Asks what still runs to end, as Ctrl-C does, and ends what does not."""
        for running in self._running:
            _signal_group(running.process, signal.SIGINT)
        deadline = time.monotonic() + _END_SECONDS
        for running in self._running:
            try:
                running.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(running.process, signal.SIGKILL)
                running.process.wait()
        self._running.clear()


def table(results: Sequence[Result]) -> str:
    """How long each part took, longest first, and how much of it the processors worked."""
    lines = [f"{'part':24}{'time':>8}{'processor':>12}"]
    lines += [
        f"{result.part.name:24}{_clock(result.seconds):>8}{_clock(result.processor):>12}"
        f"{'' if result.code == 0 else '  FAILED'}"
        for result in sorted(results, key=lambda result: -result.seconds)
    ]
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def say(text: str) -> None:
    """Prints a line at once, also into a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
