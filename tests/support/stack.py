"""The whole stack for end-to-end tests: `python -m deploy.local` in a folder of its own, on free ports.

    with running_stack(tmp_path) as stack:
        client = OpenAI(base_url=stack.base_url, api_key=stack.api_key)
        stack.kill("redis")          # kill -9; the runner starts it again
        stack.wait_until_ready()

It is the very runner that `make run` starts, so what holds here holds there.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.local.client import read_client_file
from deploy.local.settings import REPOSITORY, Ports, laid_over

__all__ = ["Stack", "running_stack"]

_START_SECONDS = 660.0
_STOP_SECONDS = 90.0
_LOOK_SECONDS = 0.1


class Stack:
    """A stack in a folder; started and stopped as often as a test likes, with the same ports, keys and data.

    Args:
        folder: Where ``var`` and the settings file lie.
        settings: Keys laid over ``deploy/local/local.yaml``.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.var = folder / "var"
        names = list(Ports.model_fields)
        ports = dict(zip(names, _free_ports(len(names)), strict=True))
        self.settings: dict[str, Any] = laid_over({"ports": ports}, dict(settings or {}))
        self._runner: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """What OpenAI's clients are given."""
        return self._client("OPENAI_BASE_URL")

    @property
    def api_key(self) -> str:
        """The first key of the default project."""
        return self._client("OPENAI_API_KEY")

    @property
    def admin_key(self) -> str:
        """The first administration key."""
        return self._client("CLOISTER_ADMIN_KEY")

    @property
    def output(self) -> str:
        """All that the runner has printed so far."""
        return (self.folder / "run.log").read_text()

    def start(self) -> None:
        """Starts the stack and waits until every part is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "local.yaml"
        config.write_text(yaml.safe_dump(self.settings))
        command = [sys.executable, "-m", "deploy.local", "--end-with-parent"]
        with (self.folder / "run.log").open("ab") as log:
            self._runner = subprocess.Popen(
                [*command, "--var", str(self.var), "--config", str(config)],
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.wait_until_ready()

    def stop(self) -> int:
        """Ends the stack as Ctrl-C does; the runner's exit code."""
        assert self._runner is not None
        self._runner.terminate()
        return self._runner.wait(_STOP_SECONDS)

    def kill_runner(self) -> None:
        """Ends the runner as ``kill -9`` does, and waits until what it had started is gone too."""
        assert self._runner is not None
        pids = [part["pid"] for part in self._record()["parts"].values()]
        self._runner.kill()
        self._runner.wait()
        _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the parts are still there")

    def pid(self, part: str) -> int:
        """The process id of a part: ``redis``, ``milvus``, ``llm``, ``embedder``, ``retriever`` or ``gateway``."""
        pid: int = self._record()["parts"][part]["pid"]
        return pid

    def log(self, part: str) -> str:
        """The log of a part."""
        return (self.var / "log" / f"{part}.log").read_text()

    def kill(self, part: str) -> None:
        """Ends a part as ``kill -9`` does, and waits until the runner has started it anew and it is ready."""
        self._replace(part, signal.SIGKILL)

    def restart(self, part: str) -> None:
        """Ends a part in order, and waits until the runner has started it anew and it is ready."""
        self._replace(part, signal.SIGTERM)

    def wait_until_ready(self) -> None:
        """Waits until the runner says that every part is ready."""
        self._wait(lambda: self._record().get("state") == "ready", "the stack is not ready")

    def _replace(self, part: str, number: int) -> None:
        old = self.pid(part)
        os.kill(old, number)
        self._wait(lambda: self._record()["parts"][part]["pid"] != old, f"{part} was not started again")
        self.wait_until_ready()

    def _wait(self, condition: Callable[[], bool], otherwise: str) -> None:
        assert self._runner is not None
        _until(condition, otherwise, self._runner, lambda: self.output[-3000:])

    def _record(self) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads((self.var / "run.json").read_text())
        except FileNotFoundError:
            return {}
        # A runner that was killed has left its record behind.
        return record if self._runner is not None and record["runner"] == self._runner.pid else {}

    def _client(self, name: str) -> str:
        return read_client_file(self.var / "client.env")[name]


@contextlib.contextmanager
def running_stack(folder: Path, settings: Mapping[str, Any] | None = None) -> Iterator[Stack]:
    """A stack that is ready, and is ended with the block.

    Args:
        folder: An empty folder; the stack's data stays there for a look at it.
        settings: Keys laid over ``deploy/local/local.yaml``.
    """
    stack = Stack(folder, settings)
    try:
        stack.start()
        yield stack
    finally:
        if stack._runner is not None and stack._runner.poll() is None:
            stack.stop()


def _free_ports(count: int) -> list[int]:
    """Ports nothing listens on, below those the system gives to outgoing connections: they stay free over restarts."""
    ports: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError("there are not enough free ports")


def _until(
    condition: Callable[[], bool],
    otherwise: str,
    runner: subprocess.Popen[bytes] | None = None,
    output: Callable[[], str] = str,
) -> None:
    """Waits for ``condition``; fails after the deadline, or at once when ``runner`` has ended."""
    deadline = time.monotonic() + _START_SECONDS
    tick = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} after {_START_SECONDS:g} s\n{output()}")
        if runner is not None and runner.poll() is not None:
            raise RuntimeError(f"the runner ended with exit code {runner.returncode}\n{output()}")
        tick.wait(_LOOK_SECONDS)
