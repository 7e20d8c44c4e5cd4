"""Real Milvus servers for tests: Milvus Lite's server, and Milvus 2.3.5 from its wheel.

Each has a data folder and ports of its own and is stopped by its process id. Both can be killed and started again on
the same data, which is how the tests see a server that is down and back.
"""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from cloister_common.testing.serving import free_port
from pymilvus import MilvusClient, MilvusException

from tests.support.process import Process
from tests.support.waiting import wait_until

__all__ = [
    "MilvusLite",
    "MilvusServer235",
    "connected",
    "free_port",
    "listens",
    "milvus_235",
    "milvus_lite",
]


def connected(uri: str) -> MilvusClient:
    """A client of a server that is up.

    pymilvus keeps one channel an address for the whole process. One that has been idle is closed by the server at the
    first ping ("too_many_pings"), and only the attempt after that one gets a new channel.
    """

    def attempt() -> MilvusClient | None:
        try:
            return MilvusClient(uri=uri, timeout=30)
        except MilvusException:
            return None

    client = wait_until(attempt, what=f"a connection to {uri}")
    assert client is not None
    return client


class _Server(Process):
    """A server with a data folder and a port."""

    start_seconds = 180.0  # 2 and 8 on a quiet machine
    stop_seconds = 10.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "server.log")
        self.folder = folder
        self.port = free_port()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def folder_of_work(self) -> Path:
        return self.folder

    def stop(self) -> int:
        """Ends it in order, or by force: what a test still wants of it is on disk."""
        try:
            return super().stop()
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL


class MilvusLite(_Server):
    """``python -m milvus_lite server`` on a folder."""

    title = "Milvus Lite"

    def command(self) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "milvus_lite", "server", "--host", "127.0.0.1"),
            *("--port", str(self.port), "--data-dir", str(self.folder / "data")),
        ]

    def answers(self) -> bool:
        return listens(self.port)


class MilvusServer235(_Server):
    """The standalone server inside the ``milvus`` wheel.

    Args:
        folder: Everything it writes.
        settings: Of the wheel's template, for example ``tls_mode`` and ``authorization_enabled``.
    """

    title = "Milvus 2.3.5"

    def __init__(self, folder: Path, **settings: str | int | bool) -> None:
        super().__init__(folder)
        self._health_port = free_port()
        self._prepare(settings)

    def command(self) -> Sequence[str]:
        return [str(self._binary), "run", "standalone"]

    def environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self._health_port),
            "MILVUS_RUN_DIR": str(self.folder / "run"),
            "LD_LIBRARY_PATH": str(self._binary.parent),
        }

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health_port}/healthz", timeout=5) as answer:
                return b"OK" in answer.read()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    @property
    def _binary(self) -> Path:
        return self.folder / "bin" / "milvus"

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
