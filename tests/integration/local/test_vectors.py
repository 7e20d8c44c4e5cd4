"""Milvus Lite as `make run` starts it: behind a socket of its owner's, and careful with a disk that fills."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cloister_common import disk
from cloister_common.disk import DiskFloor
from cloister_retriever.settings import MilvusSettings
from pymilvus import MilvusClient

from deploy.local import vectors
from deploy.local.readiness import port_probe
from deploy.local.settings import REPOSITORY

START_SECONDS = 120.0


class Server:
    """``python -m deploy.local.vectors`` on a folder."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "milvus.sock"
        self.process: asyncio.subprocess.Process | None = None
        self._folder = folder

    async def start(self) -> int:
        """Starts it and waits until it listens; its process id."""
        command = ["-m", "deploy.local.vectors", "--data-dir", str(self._folder / "data"), "--min-free-mib", "1"]
        with (self._folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, *command, "--socket", str(self.socket), cwd=REPOSITORY, stdout=log, stderr=log
            )
        probe = port_probe(self.socket)
        async with asyncio.timeout(START_SECONDS):
            while await probe() is not None:
                assert self.process.returncode is None, (self._folder / "log").read_text()[-2000:]
                await asyncio.sleep(0.05)
        return self.process.pid

    def client(self) -> MilvusClient:
        uri = MilvusSettings(uri=f"unix:{self.socket}").uri
        return MilvusClient(uri=uri, db_name="", dedicated=True, timeout=10)

    async def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), START_SECONDS)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path)
    yield server
    if server.process is not None and server.process.returncode is None:
        await server.end(signal.SIGKILL)


def listening_ports(pid: int) -> list[str]:
    """The TCP ports a process listens on, as the kernel writes them."""
    links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    rows = [row.split() for kind in ("tcp", "tcp6") for row in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links]


async def test_milvus_listens_on_no_port_and_keeps_what_it_took(server: Server) -> None:
    pid = await server.start()
    assert listening_ports(pid) == []
    client = server.client()
    client.create_collection("c", dimension=2)
    client.insert("c", [{"id": 1, "vector": [1.0, 0.0]}])
    client.close()
    # In order, which closes its files, and as kill -9 does: the socket that is left is no obstacle.
    for number in (signal.SIGTERM, signal.SIGKILL):
        ended = await server.end(number)
        assert (ended == -signal.SIGKILL) == (number == signal.SIGKILL)
        await server.start()
        client = server.client()
        client.load_collection("c")
        assert [row["id"] for row in client.query("c", ids=[1])] == [1]
        client.close()


class _Ended(BaseException):
    """In place of the end of the process."""


def test_rows_are_refused_below_the_floor_and_a_log_that_fails_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free, written, broken = 2 << 30, [], False

    def write(_: Any, batch: Any) -> None:
        if broken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(batch)

    def end(code: int) -> None:
        raise _Ended(code)

    monkeypatch.setattr(disk, "disk_usage", lambda _: SimpleNamespace(total=100 << 30, free=free))
    monkeypatch.setattr(os, "_exit", end)
    insert, delete = vectors.watched(write, DiskFloor(tmp_path, 256)), vectors.watched(write, None)
    insert(None, "row")
    free = 1 << 20
    with pytest.raises(OSError, match="less room on the disk"):
        insert(None, "refused")
    delete(None, "deletion")
    assert written == ["row", "deletion"]
    broken = True
    with pytest.raises(_Ended):
        delete(None, "lost")
    assert capsys.readouterr().err == "The write-ahead log cannot be written (No space left on device): ending.\n"
