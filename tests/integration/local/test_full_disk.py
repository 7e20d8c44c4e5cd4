"""A disk that fills under the runner: what adds data is refused, what is stored can be read, and all goes on by itself.

The disk is a small filesystem in memory with the real redis-server on it.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
from cloister_common.disk import DiskFloor
from cloister_common.testing.serving import free_port

from deploy.local import preflight
from deploy.local.config import Layout, redis_configuration
from deploy.local.disk import RedisGuard
from deploy.local.parts import Part
from deploy.local.process import Watchdog
from deploy.local.runner import Runner
from deploy.local.settings import load_local_settings
from tests.support.disks import fill, small_disk
from tests.support.waiting import until

MIB = 1 << 20
DISK_MIB = 24
PASSWORD = "a-password-of-this-test"
DEADLINE_SECONDS = 60.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", DISK_MIB) as folder:
        yield folder


class Stack:
    """The runner with Redis alone, its data on a small disk."""

    def __init__(self, folder: Path, disk: Path) -> None:
        port = free_port()
        override = folder / "mine.yaml"
        override.write_text(f"ports: {{redis: {port}}}\nrestart: {{pause_seconds: 0.1}}\n")
        settings = load_local_settings(override)
        self.layout = Layout(disk)
        self.layout.data("redis").mkdir()
        (disk / "redis.conf").write_text(redis_configuration(settings, self.layout, PASSWORD))
        self.said: list[str] = []
        self.ready = asyncio.Event()
        floor = DiskFloor(self.layout.data("redis"), settings.disk.min_free_mib)
        guard = RedisGuard(floor, port, PASSWORD, self.said.append)
        self.client = redis.Redis(port=port, password=PASSWORD)
        self._lock = preflight.lock(folder)
        self._watchdog = Watchdog(self._lock)
        command = [settings.paths.redis_server, str(disk / "redis.conf")]
        part = Part("redis", "state", command, [], port, disk / "redis.log", dict(os.environ), guard.probe)
        self._runner = Runner(
            settings,
            [part],
            record=disk / "run.json",
            watchdog=self._watchdog,
            when_ready=self._when_ready,
            say=self.said.append,
            beside=[guard.watch],
        )

    async def _when_ready(self) -> None:
        self.ready.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        run = asyncio.create_task(self._runner.run())
        try:
            await asyncio.wait_for(self.ready.wait(), DEADLINE_SECONDS)
            yield
            assert not run.done(), "the run has ended"
        finally:
            self._runner._stop.set()
            await asyncio.wait_for(run, DEADLINE_SECONDS)
            self._watchdog.close()
            self._lock.close()
            self.client.close()

    def takes(self, key: str) -> bool:
        """Whether a write is acknowledged."""
        try:
            return bool(self.client.set(key, "x" * 1000))
        except redis.ConnectionError:
            return False
        except redis.ResponseError as error:
            assert str(error).startswith("NOREPLICAS")  # noqa: PT017 - any other is a failure of the test
            return False


async def test_a_disk_that_fills_to_its_last_byte_costs_no_reader_and_no_acknowledged_write(
    tmp_path: Path, disk: Path
) -> None:
    stack = Stack(tmp_path, disk)
    async with stack.running():
        assert stack.takes("before")
        # Expiring is a write too, and nobody asks for it.
        stack.client.set("fleeting", "x", px=1000)
        process = stack.client.info("server")["run_id"]
        await until(lambda: _reserved(stack.layout.data("redis")), what="room is reserved for Redis")
        fill(disk / "filler")
        acknowledged = ["before"]
        number = 0
        while stack.takes(f"during-{number}"):
            acknowledged.append(f"during-{number}")
            number += 1
            await asyncio.sleep(0.005)  # the guard shares this loop
        await until(lambda: any("almost full" in said for said in stack.said), what="the disk is said to be full")
        await until(lambda: stack.client.get("fleeting") is None, what="the fleeting key is gone")
        assert not stack.takes("refused")
        assert all(stack.client.exists(key) for key in acknowledged)
        assert stack.client.info("server")["run_id"] == process, "Redis went down with its disk"
        (disk / "filler").unlink()
        await until(lambda: stack.takes("after"), what="writes are taken again")
        assert any("there is room again" in said for said in stack.said)
        assert (disk / "run.json").stat().st_size


async def test_redis_that_starts_on_a_full_disk_can_be_read_and_takes_nothing(tmp_path: Path, disk: Path) -> None:
    stack = Stack(tmp_path, disk)
    async with stack.running():
        assert stack.takes("before")
        await until(lambda: _reserved(stack.layout.data("redis")), what="room is reserved for Redis")
        fill(disk / "filler")
        first = stack.client.info("server")
        os.kill(first["process_id"], 9)

        def back() -> bool:
            try:
                return bool(stack.client.info("server")["run_id"] != first["run_id"])
            except redis.ConnectionError:
                return False

        await until(back, what="Redis is started again")
        assert not stack.takes("refused")
        assert stack.client.exists("before")
        (disk / "filler").unlink()
        await until(lambda: stack.takes("after"), what="writes are taken again")


def _reserved(folder: Path) -> bool:
    (file,) = folder.glob("appendonlydir/*.incr.aof")
    status = file.stat()
    return status.st_blocks * 512 - status.st_size > MIB // 8
