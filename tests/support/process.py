"""A program that a test starts, kills, and starts again on what it left behind."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support.waiting import wait_until

__all__ = ["Process"]

_LOG_CHARACTERS = 3000


class Process:
    """A child process with a log. What it runs and when it is ready is said by those who inherit.

    Args:
        log: The file to which its output is added; its folder is made.

    Attributes:
        log: That file.
        title: What messages call it.
        with_children: Whether it has a process group of its own, which is killed as a whole.
        start_seconds: How long its start may take; many times what it takes on a quiet machine.
        stop_seconds: How long its end may take.
        look_seconds: How long between two looks at whether it is ready; a look costs the processor something too.
    """

    title = "the process"
    with_children = False
    start_seconds = 60.0
    stop_seconds = 60.0
    look_seconds = 0.1

    def __init__(self, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """The command line."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it is ready. Asked only while it runs."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str] | None:
        """Its environment, if it is not the tests' own."""
        return None

    def folder_of_work(self) -> Path | None:
        """Where it runs, if not where the tests do."""
        return None

    @property
    def runs(self) -> bool:
        """Whether it is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id; it must have been launched."""
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Starts it and returns at once."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                cwd=self.folder_of_work(),
                start_new_session=self.with_children,
            )

    def start(self) -> Self:
        """Starts it and waits until it is ready; gives itself.

        Raises:
            AssertionError: It ended, with the end of its log; or it was not ready in time.
        """
        self.launch()
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        """Waits until what was launched is ready.

        Raises:
            AssertionError: As `start`; it is then killed.
        """
        try:
            self.wait_until(self.answers, "it is ready")
        except BaseException:
            self.kill()
            raise

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Waits for something that the process brings about, for as long as a start may take.

        Raises:
            AssertionError: It ended, or the condition did not come true in time; with the end of its log.
        """
        try:
            wait_until(
                lambda: not self.runs or condition(),
                seconds=self.start_seconds,
                what=f"{what} ({self.title})",
                every=self.look_seconds,
            )
            assert self.runs, f"{self.title} ended with {self.wait()}, and not yet: {what}"
        except AssertionError as error:
            error.add_note(self.log.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARACTERS:])
            raise

    def kill(self) -> None:
        """Ends it at once, as ``kill -9`` does, if it is still there."""
        if self._process is None:
            return
        if self.runs:
            if self.with_children:
                os.killpg(self.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait(self.stop_seconds)
        self._process = None

    def terminate(self) -> None:
        """Asks it to end in order, as Kubernetes does, and returns at once."""
        assert self._process is not None
        self._process.terminate()

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        return self._process.wait(self.stop_seconds)

    def stop(self) -> int:
        """Ends it in order, and gives its exit code; 0 where it was not there.

        Raises:
            subprocess.TimeoutExpired: It took too long, and was killed.
        """
        if self._process is None:
            return 0
        try:
            self.terminate()
            return self.wait()
        finally:
            self.kill()
