"""Real Milvus servers for tests: Milvus Lite's server, and Milvus 2.3.5 from its wheel.

Each has a data folder and ports of its own and is stopped by its process id. Both can be killed and started again on
the same data, which is how the tests see a server that is down and back.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pymilvus import MilvusClient, MilvusException

__all__ = [
    "MilvusLite",
    "MilvusServer235",
    "connected",
    "free_port",
    "listens",
    "milvus_235",
    "milvus_lite",
    "wait_until",
]

_START_SECONDS = 180.0
"""2 s and 8 s on a quiet machine."""


def free_port() -> int:
    """A port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Waits for ``condition`` or fails with ``what`` was awaited."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def connected(uri: str) -> MilvusClient:
    """A client of a server that is up.

    pymilvus keeps one channel an address for the whole process. One that has been idle is closed by the server at the
    first ping ("too_many_pings"), and only the attempt after that one gets a new channel.
    """
    deadline = time.monotonic() + 30.0
    while True:
        try:
            return MilvusClient(uri=uri, timeout=30)
        except MilvusException:
            if time.monotonic() > deadline:
                raise


class _Server:
    """A child process with a data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL, as a crash would be."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(30)
            self._process = None

    def _spawn(self, command: list[str], env: dict[str, str] | None = None) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, env=env, stdout=log, stderr=log)

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        try:
            wait_until(lambda: self._alive() and condition(), seconds=_START_SECONDS, what=what)
        except BaseException:
            self.kill()
            raise

    def _alive(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            tail = (self.folder / "server.log").read_bytes()[-2000:].decode(errors="replace")
            raise AssertionError(f"the server ended with {self._process.returncode}: {tail}")
        return True


class MilvusLite(_Server):
    """``python -m milvus_lite server`` on a folder."""

    def start(self) -> None:
        data = self.folder / "data"
        self._spawn(
            [
                *(sys.executable, "-m", "milvus_lite", "server", "--host", "127.0.0.1"),
                *("--port", str(self.port), "--data-dir", str(data)),
            ]
        )
        self._await(lambda: listens(self.port), "Milvus Lite listens")


class MilvusServer235(_Server):
    """The standalone server inside the ``milvus`` wheel.

    Args:
        folder: Everything it writes.
        settings: Of the wheel's template, for example ``tls_mode`` and ``authorization_enabled``.
    """

    def __init__(self, folder: Path, **settings: str | int | bool) -> None:
        super().__init__(folder)
        self._health_port = free_port()
        self._prepare(settings)

    def start(self) -> None:
        binary = self.folder / "bin" / "milvus"
        env = dict(
            os.environ,
            DEPLOY_MODE="STANDALONE",
            METRICS_PORT=str(self._health_port),
            MILVUS_RUN_DIR=str(self.folder / "run"),
            LD_LIBRARY_PATH=str(binary.parent),
        )
        self._spawn([str(binary), "run", "standalone"], env)
        self._await(self._healthy, "Milvus 2.3.5 is healthy")

    def _prepare(self, settings: dict[str, str | int | bool]) -> None:
        import milvus  # unpacks nothing when imported

        config = milvus.MilvusServerConfig(data_dir=str(self.folder))
        config.resolve_storage()
        for name in [name for name in config.configurable_items if name.endswith("_port")]:
            config.set(name, free_port())
        for name, value in {**settings, "proxy_port": self.port}.items():
            config.set(name, value)
        config.write_config()
        milvus._initialize_data_files(str(self.folder))
        # The embedded etcd listens on its well-known ports unless it has a configuration of its own.
        etcd = self.folder / "configs" / "etcd.yaml"
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        etcd.write_text(
            f"name: default\ndata-dir: {self.folder / 'data' / 'etcd.data'}\n"
            f"listen-client-urls: {client}\nadvertise-client-urls: {client}\n"
            f"listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\ninitial-cluster: default={peer}\n"
        )
        written = self.folder / "configs" / "milvus.yaml"
        text = written.read_text()
        embedded = text.replace("  use:\n    embed: true", f"  config:\n    path: {etcd}\n  use:\n    embed: true", 1)
        assert embedded != text
        written.write_text(embedded)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health_port}/healthz", timeout=5) as answer:
                return b"OK" in answer.read()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


@pytest.fixture(scope="session")
def milvus_lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusLite]:
    """A Milvus Lite server for the session."""
    server = MilvusLite(tmp_path_factory.mktemp("milvus-lite"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def milvus_235(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer235]:
    """A Milvus 2.3.5 server for the session: about 8 seconds to start, 400 MB of memory."""
    server = MilvusServer235(tmp_path_factory.mktemp("milvus-235"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def listens(port: int) -> bool:
    """Whether something listens on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
