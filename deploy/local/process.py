"""One process of the stack: in a group of its own, with its own log, and never left behind.

Three things see to that: `Process.stop`, the watchdog (which knows the group and ends it if the runner is killed),
and the kernel, which is asked to send SIGTERM to the process when its parent dies.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from deploy.local.settings import REPOSITORY

__all__ = ["Process", "Watchdog", "end_with_parent", "trim_log"]

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LARGEST_LOG_BYTES = 50 * 1024 * 1024
_TRIES = 50
_BETWEEN_TRIES_SECONDS = 0.1
_libc = ctypes.CDLL(None)


def _prepare(nice: int) -> None:
    """What a new process does between fork and exec."""
    end_with_parent()
    os.nice(nice)


async def _stand_back(pid: int, nice: int) -> None:
    """Gives the session of a process its priority too.

    Where the kernel groups processes by session (``sched_autogroup``), the priority of one counts only among those of
    its own session, and every part has a session to itself. One write in a tenth of a second is allowed to a user.
    """
    group = Path(f"/proc/{pid}/autogroup")
    for _ in range(_TRIES):
        try:
            group.write_text(str(nice))  # noqa: ASYNC240 - no disk, the kernel's memory
            return
        except BlockingIOError:
            await asyncio.sleep(_BETWEEN_TRIES_SECONDS)
        except OSError:
            return  # the process has ended, or this kernel does not group them


def end_with_parent() -> None:
    """Asks the kernel to send this process SIGTERM when the thread that started it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Watchdog:
    """The runner's side of `deploy.local.watchdog`.

    Args:
        lock: A file whose lock the watchdog keeps for as long as it runs, so that no new run starts before it is done.
    """

    def __init__(self, lock: BinaryIO) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.watchdog"],
            stdin=subprocess.PIPE,
            cwd=REPOSITORY,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )

    def started(self, group: int) -> None:
        self._tell(f"+{group}\n")

    def ended(self, group: int) -> None:
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """Ends the watchdog, and through it every group that was not reported as ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        # If somebody killed it, the kernel's signal is what still ends the parts after the runner.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


class Process:
    """A running process of the stack.

    Attributes:
        pid: Its process id, which is also the id of its group.
        log_start: Where in its log its own words begin.
    """

    def __init__(self, process: asyncio.subprocess.Process, watchdog: Watchdog, log_start: int) -> None:
        self._process = process
        self._watchdog = watchdog
        self._cleared = False
        self.pid = process.pid
        self.log_start = log_start

    @classmethod
    async def start(
        cls, command: Sequence[str], *, environment: Mapping[str, str], log: Path, watchdog: Watchdog, nice: int = 0
    ) -> "Process":
        """Starts ``command`` in the repository's folder; both its outputs are appended to ``log``.

        Raises:
            OSError: The program or the log cannot be opened.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            log_start = output.tell()
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=REPOSITORY,
                start_new_session=True,
                preexec_fn=partial(_prepare, nice),
            )
        watchdog.started(process.pid)
        if nice:
            await _stand_back(process.pid, nice)
        return cls(process, watchdog, log_start)

    async def wait(self) -> int:
        """Waits for the end and clears away what the process may have left of its group; the exit code."""
        code = await self._process.wait()
        if not self._cleared:
            self._cleared = True
            self._kill_group()
            self._watchdog.ended(self.pid)
        return code

    async def stop(self, seconds: float) -> None:
        """Asks the process to end and kills its whole group when it has not after ``seconds``."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), seconds)
        except TimeoutError:
            self._kill_group()
        await self.wait()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def trim_log(path: Path) -> None:
    """Moves the content of a log that has grown large to ``NAME.log.1``; the process goes on writing to the same file.

    What it writes in between is lost. Everybody appends, so that the file grows from its beginning again.
    """
    if path.exists() and path.stat().st_size > _LARGEST_LOG_BYTES:
        # A full disk keeps no old log: there, room matters more.
        with contextlib.suppress(OSError):
            shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)
