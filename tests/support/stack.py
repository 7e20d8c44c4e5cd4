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
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from cloister_common.testing.serving import free_port

from deploy.local.client import read_client_file
from deploy.local.settings import REPOSITORY, Ports, laid_over
from tests.support.process import Process
from tests.support.waiting import wait_until

__all__ = ["Stack", "running_stack"]


_STEADY = {"llm": {"engine": {"dtype": "bfloat16"}}}
"""The same type on every processor, and without measuring, which each new folder would take seconds for."""


class _Runner(Process):
    title = "the stack"
    start_seconds = 660.0
    stop_seconds = 90.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "run.log")
        self._folder = folder

    def command(self) -> Sequence[str]:
        files = ["--var", str(self._folder / "var"), "--config", str(self._folder / "local.yaml")]
        return [sys.executable, "-m", "deploy.local", "--end-with-parent", *files]

    def folder_of_work(self) -> Path:
        return REPOSITORY

    def answers(self) -> bool:
        """Whether the runner says that every part is ready."""
        return bool(self.record().get("state") == "ready")

    def record(self) -> dict[str, Any]:
        """What the runner says of its parts."""
        try:
            record: dict[str, Any] = json.loads((self._folder / "var" / "run.json").read_text())
        except FileNotFoundError:
            return {}
        # A runner that was killed has left its record behind.
        return record if self.runs and record["runner"] == self.pid else {}


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
        ports = {name: free_port() for name in names}
        self.settings: dict[str, Any] = laid_over({"ports": ports, "overrides": _STEADY}, dict(settings or {}))
        self._runner = _Runner(folder)

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
        return self._runner.log.read_text()

    def start(self) -> None:
        """Starts the stack and waits until every part is ready."""
        (self.folder / "local.yaml").write_text(yaml.safe_dump(self.settings))
        self._runner.start()

    def stop(self) -> int:
        """Ends the stack as Ctrl-C does, if it runs; the runner's exit code."""
        return self._runner.stop()

    def kill_runner(self) -> None:
        """Ends the runner as ``kill -9`` does, and waits until what it had started is gone too."""
        pids = [part["pid"] for part in self._parts().values()]
        self._runner.kill()
        wait_until(
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), seconds=120, what="the parts are gone"
        )

    def pid(self, part: str) -> int:
        """The process id of a part: ``redis``, ``milvus``, ``llm``, ``embedder``, ``retriever`` or ``gateway``."""
        pid: int = self._parts()[part]["pid"]
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
        self._runner.wait_until(self._runner.answers, "it is ready")

    def _replace(self, part: str, number: int) -> None:
        old = self.pid(part)
        os.kill(old, number)
        self._runner.wait_until(lambda: self.pid(part) != old, f"{part} is started again")
        self.wait_until_ready()

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = self._runner.record()["parts"]
        return parts

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
        stack.stop()
