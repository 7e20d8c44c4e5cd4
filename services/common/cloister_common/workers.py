"""Several processes that share a service's port: a parent that starts and watches them, and the link to each.

The parent serves nothing itself but the metrics port. It starts the first worker and waits until that serves, so that
settings which are wrong are said once; then the others, by the command line it was started with. One that dies is
started again after a growing pause; when one dies again and again before it has served for a minute, the parent ends
them all, so that whoever runs it (Kubernetes) sees it. SIGTERM goes on to all, and the parent waits for them.

A link is a pair of connected sockets. The parent asks, the worker answers with whether its loop turns and with its
metrics; from a thread, so that a busy loop does not delay them. Metrics of all workers are on the one metrics port,
each with the label ``worker``: a sum of counters is the reader's to make, and gauges stay what they are. A worker whose
parent has gone ends.
"""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest, make_asgi_app
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from starlette.types import Receive, Scope, Send

from cloister_common.doors import claim, listen, serve_bounded
from cloister_common.logs import get_logger
from cloister_common.metrics import DEAD_SECONDS, Heart, metrics_limits, with_health
from cloister_common.settings import ServerSettings

__all__ = ["Worker", "run_workers"]

log = get_logger(__name__)

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0
_PROVEN_SECONDS = 60.0
"""A worker that has served so long was no failed start: its end is a new matter."""
_MOST_FAILURES = 5
_LOOK_SECONDS = 5.0
_ANSWER_SECONDS = 2.0

_ANSWER = struct.Struct(">?I")
"""Whether the worker's loop turns, and how many bytes of metrics follow."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What a process is told that is one of several.

    Attributes:
        number: Which, from 0.
        link: File descriptor of its end of the link.
    """

    number: int
    link: int

    def answer(self, heart: Heart) -> None:
        """Answers the parent from a thread, from now on; when there is no parent any more, asks this process to end."""
        link = socket.socket(fileno=self.link)
        threading.Thread(target=_answer, args=(link, heart), name="worker-link", daemon=True).start()


def _answer(link: socket.socket, heart: Heart) -> None:
    # Whether the parent closed its end or it broke: there is no parent any more.
    with contextlib.suppress(OSError):
        while link.recv(1):
            metrics = generate_latest()
            link.sendall(_ANSWER.pack(heart.beats, len(metrics)) + metrics)
    os.kill(os.getpid(), signal.SIGTERM)


def run_workers(server: ServerSettings, count: int) -> int:
    """Runs ``count`` workers until SIGTERM or SIGINT; gives the exit code of this process.

    Raises:
        SettingsError: A port is taken.
    """
    port = claim(server.host, server.port, setting="server.port")
    metrics = listen(server.host, server.metrics_port, setting="server.metrics_port")
    with port:
        return asyncio.run(_Parent(server, count).run(metrics))


class _Link:
    """The parent's end of a link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._asked: deque[asyncio.Future[tuple[bool, bytes]]] = deque()
        self._reading = asyncio.create_task(self._read(), name="worker-link")

    async def ask(self) -> tuple[bool, bytes]:
        """Whether the worker's loop turns, and its metrics. Raises `ConnectionError` where it has ended."""
        answer: asyncio.Future[tuple[bool, bytes]] = asyncio.get_running_loop().create_future()
        if self._reading.done():
            raise ConnectionError
        self._asked.append(answer)
        self._writer.write(b"?")
        return await answer

    async def _read(self) -> None:
        try:
            while True:
                lives, size = _ANSWER.unpack(await self._reader.readexactly(_ANSWER.size))
                metrics = await self._reader.readexactly(size)
                # Who asked may have stopped waiting; the answer is still its own and nobody else's.
                answer = self._asked.popleft()
                if not answer.done():
                    answer.set_result((lives, metrics))
        except (asyncio.IncompleteReadError, OSError):
            while self._asked:
                answer = self._asked.popleft()
                if not answer.done():
                    answer.set_exception(ConnectionError())
        finally:
            self._writer.close()


@dataclass(slots=True)
class _Child:
    """One running worker."""

    process: asyncio.subprocess.Process
    link: _Link
    serves_since: float | None = None
    lived_at: float = 0.0


class _Parent:
    """Starts and watches the workers."""

    def __init__(self, server: ServerSettings, count: int) -> None:
        self._server = server
        self._count = count
        self._children: dict[int, _Child] = {}
        self._stopping = asyncio.Event()
        self._code = 0

    async def run(self, metrics: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, 0)
        app = with_health(self._metrics, self._serves)
        port = asyncio.create_task(serve_bounded(app, metrics, metrics_limits(self._server)), name="metrics")
        look = asyncio.create_task(self._look(), name="workers-look")
        try:
            await self._keep_all()
        finally:
            for task in (port, look):
                task.cancel()
            await asyncio.gather(port, look, return_exceptions=True)
        return self._code

    async def _keep_all(self) -> None:
        first_serves = asyncio.Event()
        keepers = [asyncio.create_task(self._keep(0, first_serves), name="worker-0")]
        ready = asyncio.create_task(first_serves.wait(), name="first-worker")
        await asyncio.wait([*keepers, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not self._stopping.is_set():
            keepers += [asyncio.create_task(self._keep(n), name=f"worker-{n}") for n in range(1, self._count)]
        await asyncio.gather(*keepers)

    async def _keep(self, number: int, serves: asyncio.Event | None = None) -> None:
        """Has this worker run until all are to stop."""
        pause, failures = _FIRST_PAUSE_SECONDS, 0
        while not self._stopping.is_set():
            child = await self._start(number)
            ready = asyncio.create_task(self._wait_until_it_serves(child, serves), name=f"worker-{number}-starts")
            code = await child.process.wait()
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)
            del self._children[number]
            if self._stopping.is_set():
                return
            served = 0.0 if child.serves_since is None else time.monotonic() - child.serves_since
            log.error("worker_died", worker=number, code=code, served_seconds=round(served, 1))
            if served > _PROVEN_SECONDS:
                pause, failures = _FIRST_PAUSE_SECONDS, 0
            failures += 1
            if failures >= _MOST_FAILURES or (serves is not None and not serves.is_set()):
                # The first of all: nothing has ever served, and it has said why.
                self._stop(code if code > 0 else 1)
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _start(self, number: int) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            # As this process was started, whatever that was: a module, or a program around it.
            command = [sys.executable, *sys.orig_argv[1:], "--worker", str(number), "--link", str(theirs.fileno())]
            process = await asyncio.create_subprocess_exec(*command, pass_fds=[theirs.fileno()])
        ours.setblocking(False)
        child = _Child(process, _Link(*await asyncio.open_unix_connection(sock=ours)))
        self._children[number] = child
        if self._stopping.is_set():
            process.terminate()
        return child

    async def _wait_until_it_serves(self, child: _Child, serves: asyncio.Event | None) -> None:
        """A worker answers once it serves."""
        # One that ends before it does is seen, and told, where its process is waited for.
        with contextlib.suppress(ConnectionError):
            await child.link.ask()
            child.serves_since = child.lived_at = time.monotonic()
            if serves is not None:
                serves.set()

    def _serves(self) -> bool:
        return any(child.serves_since is not None for child in self._children.values())

    def _stop(self, code: int) -> None:
        if not self._stopping.is_set():
            self._code = code
        self._stopping.set()
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                child.process.terminate()

    async def _look(self) -> None:
        """Ends workers that are stuck: no other worker, and nobody outside, would notice."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for number, child in list(self._children.items()):
                if child.serves_since is None or self._stopping.is_set():
                    continue
                now = time.monotonic()
                # One that does not answer has not lived: that is what is counted here.
                with contextlib.suppress(ConnectionError, TimeoutError):
                    async with asyncio.timeout(_ANSWER_SECONDS):
                        lives, _ = await child.link.ask()
                    child.lived_at = now if lives else child.lived_at
                if now - child.lived_at > DEAD_SECONDS:
                    log.error("worker_stuck", worker=number)
                    with contextlib.suppress(ProcessLookupError):
                        child.process.kill()

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The metrics of all workers, as any other registry's."""
        numbered = sorted(self._children.items())
        answers = await asyncio.gather(*(self._metrics_of(child) for _, child in numbered))
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Merged((number, text) for (number, _), text in zip(numbered, answers, strict=True)))
        await make_asgi_app(registry)(scope, receive, send)

    async def _metrics_of(self, child: _Child) -> str:
        if child.serves_since is None:
            return ""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                _, metrics = await child.link.ask()
        except (ConnectionError, TimeoutError):
            return ""
        return metrics.decode()


class _Merged(Collector):
    """Metrics of several workers, each sample with its worker's number."""

    def __init__(self, texts: Iterable[tuple[int, str]]) -> None:
        self._texts = list(texts)

    def collect(self) -> Iterable[Metric]:
        merged: dict[str, Metric] = {}
        for number, text in self._texts:
            for family in text_string_to_metric_families(text):
                metric = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    metric.add_sample(sample.name, {**sample.labels, "worker": str(number)}, sample.value)
        return merged.values()
