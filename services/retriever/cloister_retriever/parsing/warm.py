"""The service's side of the warm process: it is started before the first file comes, and again when it has died."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable

from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger

__all__ = ["ParserHost", "ParserProcess"]

log = get_logger(__name__)

_START_SECONDS = 120.0
"""A second on a quiet machine, once; a starved one may take long, and that is no reason to fail a file."""


class ParserProcess:
    """The process of one file: what it is sent and says, and a handle that stays its own when it has ended.

    Attributes:
        reader: What it says, to its end.
        writer: What it is sent.
    """

    def __init__(self, handle: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._handle = handle

    def send_signal(self, number: signal.Signals) -> None:
        """Raises `ProcessLookupError` if it has ended."""
        signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """Ends it, if it has not ended."""
        with contextlib.suppress(ProcessLookupError):
            self.send_signal(signal.SIGKILL)

    async def close(self) -> None:
        """Ends it, and lets go of it."""
        self.kill()
        os.close(self._handle)
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class ParserHost:
    """Has parsers forked. Several files may be read at once, and one host does for all parsers of a service."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._end: Callable[[], object] = lambda: None

    def warm(self) -> None:
        """Starts the process unless it runs, so that the first file need not wait for its libraries."""
        if self._process is None or self._process.poll() is not None:
            self._start()

    async def begin(self, request: bytes) -> ParserProcess:
        """A process that has this request, and is about to confine itself.

        Raises:
            Unavailable: It could not be started; try again.
        """
        self.warm()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        assert self._link is not None
        asked = asyncio.ensure_future(asyncio.to_thread(self._fork, self._link, request, theirs))
        try:
            handle = await asyncio.shield(asked)
        except asyncio.CancelledError:
            ours.close()  # the process reads an end, and ends
            asked.add_done_callback(_let_go)
            raise
        except OSError as error:
            ours.close()
            self.close()
            log.error("parser_not_started", reason=type(error).__name__)
            raise Unavailable("The parser did not start. Try again in a moment.", retry_after=5) from error
        ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        return ParserProcess(handle, reader, writer)

    def close(self) -> None:
        """Ends the warm process and what was forked from it. `begin` starts it again."""
        self._end()
        self._process = self._link = None

    def _start(self) -> None:
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_START_SECONDS)
        # -I: no environment, no current folder. One thread: a process with more must not be forked.
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "cloister_retriever.parsing.host"],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()
        self._process, self._link = process, ours
        self._end = weakref.finalize(self, _end, process, ours)

    def _fork(self, link: socket.socket, request: bytes, theirs: socket.socket) -> int:
        with self._one_at_a_time, theirs:
            socket.send_fds(link, [request], [theirs.fileno()])
            said, handles, _, _ = socket.recv_fds(link, 16, 1)
            if not said or not handles:
                raise ConnectionError("the warm process has ended, or what it forked")
            return handles[0]


def _let_go(asked: "asyncio.Future[int]") -> None:
    if not asked.cancelled() and asked.exception() is None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(asked.result(), signal.SIGKILL)
        os.close(asked.result())


def _end(process: "subprocess.Popen[bytes]", link: socket.socket) -> None:
    link.close()
    process.kill()
    process.wait()
