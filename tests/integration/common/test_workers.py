"""Several processes behind one port: watched, counted together, ended together."""

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cloister_common.testing.serving import free_port

from tests.support.process import Process
from tests.support.waiting import wait_until


class TinyService(Process):
    """``python -m tests.support.tiny_service`` with two workers."""

    title = "the service"
    with_children = True

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder / "log")
        self.port, self.metrics_port = free_port(), free_port()
        self.stuck_until = folder / "stuck-until"
        server = {"port": self.port, "metrics_port": self.metrics_port, "shutdown_seconds": 5, "workers": 2}
        self._config = folder / "tiny.yaml"
        self._config.write_text(yaml.safe_dump({"server": server, "stuck_until": str(self.stuck_until)} | settings))

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.support.tiny_service", "--config", str(self._config)]

    def answers(self) -> bool:
        return len(self.pids()) == 2

    def ask(self, path: str, port: int | None = None) -> httpx.Response:
        """One call, on a connection of its own."""
        return httpx.get(f"http://127.0.0.1:{port or self.port}{path}", timeout=20)

    def pids(self) -> set[int]:
        """The processes that answer."""
        with suppress(httpx.TransportError):
            return {self.ask("/process").json() for _ in range(20)}
        return set()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of an event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyService]:
    """One that lives through the tests that take it."""
    service = TinyService(tmp_path_factory.mktemp("shared")).start()
    yield service
    service.kill()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[TinyService]:
    """One that a test may end."""
    service = TinyService(tmp_path).start()
    yield service
    service.kill()


def test_metrics_of_all_workers_are_on_the_one_port(shared: TinyService) -> None:
    def counted() -> dict[str, float]:
        pattern = r'^cloister_http_requests_total{[^}]*route="/process"[^}]*worker="(\d)"} (\S+)$'
        return {worker: float(value) for worker, value in re.findall(pattern, metrics(), re.MULTILINE)}

    def metrics() -> str:
        return shared.ask("/metrics", shared.metrics_port).text

    before = counted()
    for _ in range(30):
        shared.ask("/process")
    assert set(counted()) == {"0", "1"}
    assert sum(counted().values()) - sum(before.values()) == 30
    assert metrics().count("# TYPE cloister_http_requests_total counter") == 1, "each name once"
    assert len(re.findall(r'^process_resident_memory_bytes{worker="\d"}', metrics(), re.MULTILINE)) == 2


def test_service_whose_loops_are_busy_is_alive_for_whoever_would_restart_it(shared: TinyService) -> None:
    with ExitStack() as stack:
        stack.callback(shared.stuck_until.touch)

        def stuck() -> bool:
            # The system gives connections to one or the other: one call may not be enough for both.
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", shared.port)))
            connection.sendall(b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n")
            return not _serves(shared)

        wait_until(stuck, what="both are stuck")
        for _ in range(10):
            assert shared.ask("/livez", shared.metrics_port).json() == {"status": "ok"}
    wait_until(shared.answers, what="both serve again")


def _serves(service: TinyService) -> bool:
    """Whether anybody answers soon."""
    with suppress(httpx.ReadTimeout):
        httpx.get(f"http://127.0.0.1:{service.port}/process", timeout=0.5)
        return True
    return False


def test_two_workers_serve_one_port_and_one_that_is_killed_comes_again(shared: TinyService) -> None:
    before = shared.pids()
    assert shared.pid not in before, "the parent serves nothing itself"
    killed = before.pop()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(shared.pids() - {killed}) == 2, what="two serve again")
    (died,) = shared.lines("worker_died")
    assert died["code"] == -signal.SIGKILL
    assert sorted(line["worker"] for line in shared.lines("serving")) == sorted([0, 1, died["worker"]])


def test_open_requests_of_all_workers_end_after_sigterm_and_nothing_is_left(service: TinyService) -> None:
    workers = service.pids()
    streams = [httpx.stream("GET", f"http://127.0.0.1:{service.port}/slow", timeout=20) for _ in range(8)]
    pieces = []
    for stream in streams:
        answer = stream.__enter__().iter_text()
        assert next(answer) == "begun"
        pieces.append(answer)
    service.terminate()
    assert [list(answer) for answer in pieces] == [["ended"]] * 8
    for stream in streams:
        stream.__exit__(None, None, None)
    assert service.wait() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_workers_whose_parent_is_killed_end_too(service: TinyService) -> None:
    workers = service.pids()
    os.kill(service.pid, signal.SIGKILL)
    wait_until(lambda: not any(_runs(pid) for pid in workers), what="the workers have ended")


def _runs(pid: int) -> bool:
    """Whether it is there, and no zombie that nobody has asked about yet."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"fails_to_start": "settings"}, "Redis is not what the settings say."), ({"speed": 3}, "speed")],
)
def test_start_that_fails_is_one_sentence_of_one_worker(
    tmp_path: Path, settings: dict[str, Any], sentence: str
) -> None:
    service = TinyService(tmp_path, **settings)
    service.launch()
    assert service.wait() == 2
    told = [line for line in service.log.read_text().splitlines() if not line.startswith("{")]
    assert len(told) == 1
    assert sentence in told[0]


@pytest.mark.parametrize("which", ["port", "metrics_port"])
def test_port_in_use_is_one_sentence_with_the_setting(tmp_path: Path, which: str) -> None:
    service = TinyService(tmp_path)
    port = getattr(service, which)
    # Others who share it are in the way too.
    with socket.create_server(("127.0.0.1", port), reuse_port=True):
        service.launch()
        assert service.wait() == 2
    assert f"Cannot listen on 127.0.0.1:{port}" in service.log.read_text()
    assert f"set server.{which}" in service.log.read_text()
