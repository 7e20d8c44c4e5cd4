"""Serves an application on a real socket in a thread of its own, for tests of real clients, sync or async."""

import contextlib
import fcntl
import functools
import os
import random
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from cloister_common.doors import bound_connections
from cloister_common.settings import ConnectionLimits

__all__ = ["free_port", "served"]

_START_SECONDS = 60.0


_PORTS = range(15_000, 30_000)
"""Below those that the kernel gives to outgoing connections, one of which could take a port between its uses."""
_given: set[int] = set()


def free_port() -> int:
    """A port of the loopback interface that nothing listens on at this moment, and that nobody was given before, in
    this process or in another one that lives: who was may not listen there yet."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - no secret
        if port in _given or not _claimed(port):
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port


@functools.cache
def _claims() -> int:
    """A file that the tests of this user share, open for good: a process loses its locks with the first that closes."""
    return os.open(Path(tempfile.gettempdir()) / f"cloister-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600)


def _claimed(port: int) -> bool:
    """Whether the port is ours from now on: its byte of the file is locked until this process ends."""
    try:
        fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


class _Server(uvicorn.Server):
    """With the same protocols as in production, at their default limits."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        bound_connections(self.config, ConnectionLimits())
        await super().startup(sockets)


@contextlib.contextmanager
def served(app: Any, port: int = 0, *, host: str = "127.0.0.1") -> Iterator[str]:
    """Serves the ASGI application ``app`` while the block runs; gives its base URL, without a path.

    At the end open requests are cut off, as a pod that is killed cuts them off.

    Args:
        app: The application; its lifespan runs in the server's thread and loop.
        port: The port, or 0 for a free one.
        host: An address of the loopback interface.

    Raises:
        RuntimeError: It did not start.
    """
    listener = socket.create_server((host, port))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        lifespan="on",
        timeout_graceful_shutdown=0,
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="served-app", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the application did not start; its log says why")
            threading.Event().wait(0.01)
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(_START_SECONDS)
        listener.close()
