"""A real redis-server for tests: as durable as production's, on a free port, in a folder of its own."""

import contextlib
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import redis
from cloister_common.testing.serving import free_port

from tests.support.process import Process

__all__ = ["RedisOnDisk", "RedisServer"]

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 1 << 30


class RedisServer(Process):
    """A redis-server process that can be killed and started again with what it wrote.

    That lies in memory where there is room: it outlives a killed process there too, and nobody else's work on a disk
    holds the server up for seconds. What a cut of power leaves is for `tests.support.disks`.

    Args:
        folder: Where its log lies, and what it writes if there is no room in memory; kept between starts.
        password: Its password, if it shares one with others.
        options: Settings to add to, or to put in place of, the durable ones; they count when it starts.

    Attributes:
        folder: Where what it writes lies.
    """

    title = "redis-server"
    look_seconds = 0.01
    in_memory = True

    def __init__(self, folder: Path, *, password: str | None = None, **options: str) -> None:
        super().__init__(folder / "log")
        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError("redis-server is not installed: apt-get install redis-server")
        self._program = program
        self.folder = folder
        if self.in_memory and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
            self.folder = Path(tempfile.mkdtemp(prefix="cloister-redis-", dir=_MEMORY))
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.port = free_port()
        self.password = password or secrets.token_hex(16)
        self.password_file = self.folder / "password"
        self.password_file.write_text(self.password, encoding="utf-8")
        self.options = {"appendonly": "yes", "appendfsync": "always", "save": "", **options}

    @property
    def url(self) -> str:
        """Its address, as the settings want it: without credentials."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, object]:
        """The ``redis`` section of a gateway's settings."""
        return {"url": self.url, "password_file": str(self.password_file), "start_seconds": 5}

    def tls_settings(self, ca_file: Path) -> dict[str, object]:
        """The same over TLS; the options must have given it ``tls-port`` and a certificate."""
        url = f"rediss://127.0.0.1:{self.options['tls-port']}"
        return {**self.settings, "url": url, "tls": {"ca_file": str(ca_file)}}

    def client(self) -> redis.Redis:
        """A synchronous client, for a test's own questions."""
        return redis.Redis(port=self.port, password=self.password)

    def replicas(self) -> int:
        """How many replicas follow it, which have what it has."""
        with self.client() as client:
            found = client.info("replication")
        return sum(isinstance(one, dict) and one.get("state") == "online" for one in found.values())

    def command(self) -> Sequence[str]:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        for name, value in {**self.options, "requirepass": self.password}.items():
            arguments += [f"--{name}", *(value.split() or [""])]
        return [self._program, *arguments]

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def start(self) -> Self:
        """Starts it, unless it runs, and waits until it answers."""
        return self if self.runs else super().start()

    @contextlib.contextmanager
    def apart(self) -> Iterator[redis.Redis]:
        """Its data on another port, after a `kill`: for what happens while the usual clients are cut off."""
        usual, self.port = self.port, free_port()
        self.start()
        try:
            with self.client() as client:
                yield client
        finally:
            self.stop()
            self.port = usual

    def flush(self) -> None:
        """Starts it if it was killed, and empties it."""
        self.start()
        with self.client() as client:
            client.flushall()


class RedisOnDisk(RedisServer):
    """One that waits for the disk, as production's does: for what measures it."""

    in_memory = False
