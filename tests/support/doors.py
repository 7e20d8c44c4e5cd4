"""A tiny service with tight limits on its connections, and raw sockets to it."""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cloister_common.testing.serving import free_port

from tests.support.certificates import certificate_for
from tests.support.waiting import wait_until

__all__ = ["HEAD", "LIMITS", "SLOW_SECONDS", "Server", "ask_on", "error_of", "rest", "send", "serving", "trickle"]

HEAD = b"GET /livez HTTP/1.1\r\nhost: x\r\n"
LIMITS: dict[str, Any] = {
    "connections": 64,
    "head_bytes": 8192,
    "headers": 50,
    "head_seconds": 1.0,
    "body_bytes_per_second": 100,
    "body_window_seconds": 1.0,
    "body_seconds": 20.0,
    "unread_seconds": 1.0,
    "frames_per_message": 32,
    "frames_per_second": 200,
    "frame_bytes_per_second": 1_000_000,
}
SLOW_SECONDS = 2.0
"""Longer than the limits that a response, or a body that nobody reads yet, must outlive."""


@dataclass(frozen=True)
class Server:
    """A tiny service as a process."""

    port: int
    metrics_port: int
    pid: int
    ca_file: Path | None = None

    def connect(self) -> socket.socket:
        """A new connection, which gives up after 20 s."""
        connection = socket.create_connection(("127.0.0.1", self.port), 20)
        if self.ca_file is None:
            return connection
        return ssl.create_default_context(cafile=str(self.ca_file)).wrap_socket(connection, server_hostname="127.0.0.1")

    def ask(self) -> bytes:
        """The answer to a request that has nothing wrong."""
        with self.connect() as connection:
            connection.sendall(HEAD + b"connection: close\r\n\r\n")
            return rest(connection)

    def answers(self) -> bool:
        """Whether it has started."""
        with contextlib.suppress(OSError):
            return self.ask().startswith(b"HTTP/1.1 200")
        return False


@contextlib.contextmanager
def serving(folder: Path, *, tls: bool = False, **limits: Any) -> Iterator[Server]:
    server: dict[str, Any] = {"port": free_port(), "metrics_port": free_port(), "limits": LIMITS | limits}
    ca_file = None
    if tls:
        ca_file, key = certificate_for("127.0.0.1", folder / "tls")
        server["tls"] = {"certificate_file": str(ca_file), "key_file": str(key)}
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump({"server": server, "slow_seconds": SLOW_SECONDS}))
    command = [sys.executable, "-m", "tests.support.tiny_service", "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    started = Server(server["port"], server["metrics_port"], process.pid, ca_file)
    try:
        wait_until(started.answers, seconds=60, what="the tiny service answers", every=0.1)
        yield started
    finally:
        process.kill()
        process.wait()


def rest(connection: socket.socket) -> bytes:
    """All that still comes, until the connection ends."""
    pieces = []
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def error_of(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and error object of the answer that ends the connection."""
    head, _, body = rest(connection).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["error"]


def send(connection: socket.socket, data: bytes) -> None:
    """Sends ``data``, or as much of it as is taken."""
    with contextlib.suppress(OSError):
        connection.sendall(data)


def ask_on(connection: socket.socket) -> None:
    """A request and its answer on a connection that stays open."""
    connection.sendall(HEAD + b"\r\n")
    answer = b""
    while not answer.endswith(b'{"status":"ok"}'):
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece


def trickle(connection: socket.socket, pieces: Callable[[], bytes], *, pause: float = 0.2) -> threading.Thread:
    """Sends a piece now and then until the connection ends."""

    def work() -> None:
        with contextlib.suppress(OSError):
            for _ in range(200):
                connection.sendall(pieces())
                time.sleep(pause)

    thread = threading.Thread(target=work)
    thread.start()
    return thread
