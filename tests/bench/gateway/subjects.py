"""What is measured: a gateway of some checkout with a Redis of its own, as a process on a core of its own.

The subject has one core, and everything else another: the pod, Redis, and the clients in this process.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml
from cloister_common.testing.serving import free_port

from tests.bench.gateway.meters import Meter, Usage, cpu_seconds, resident_bytes
from tests.bench.gateway.mock import CONTEXT_TOKENS, MODEL, Pace
from tests.support.gateway import INTERNAL_TOKEN, secret_file
from tests.support.process import Process
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisOnDisk, RedisServer

__all__ = ["ROOT", "CheckoutGateway", "MockPod", "Subject", "gateway_of", "on_own_core", "pinned"]

ROOT = Path(__file__).parents[3]


@cache
def _cores() -> tuple[int, int]:
    """The core of what is measured and that of all else, of those this process had when it was first asked.

    Raises:
        RuntimeError: There is one only.
    """
    others, *rest = sorted(os.sched_getaffinity(0))
    if not rest:
        raise RuntimeError("the benchmark needs two cores: one for what is measured, one for all else")
    return rest[0], others


def on_own_core(command: Sequence[str]) -> Sequence[str]:
    """The command on the subject's core. What this process starts otherwise stays on its own, see `pinned`."""
    return ["taskset", "--cpu-list", str(_cores()[0]), *command]


@contextmanager
def pinned() -> Iterator[None]:
    """This process and what it starts on the core of all that is not measured, while the block runs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_cores()[1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class MockPod(Process):
    """`tests.bench.gateway.mock` as a process."""

    title = "the pod without a model"
    look_seconds = 0.02

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "log")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.bench.gateway.mock", "--port", str(self.port)]

    def folder_of_work(self) -> Path:
        return ROOT

    def answers(self) -> bool:
        return _answers(f"{self.url}/health")

    @property
    def cpu(self) -> float:
        """Seconds of the processor so far."""
        return cpu_seconds(self.pid)

    def pace(self, *, tokens_per_second: float = 0.0, first_seconds: float = 0.0) -> None:
        """How fast it answers from now on; see `Pace`."""
        pace = Pace(tokens_per_second, first_seconds)
        body = {"tokens_per_second": pace.tokens_per_second, "first_seconds": pace.first_seconds}
        httpx.post(f"{self.url}/pace", json=body).raise_for_status()

    def counts(self) -> dict[str, int]:
        """How often each path was called, streams that run, streams whose reader left."""
        counted: dict[str, int] = httpx.get(f"{self.url}/counts").json()
        return counted


class Subject(Process):
    """Something that serves OpenAI's API: our gateway, or a peer.

    Attributes:
        name: What tables call it.
        port: Where it serves.
        key: What callers send as a key.
        model: The model to ask for.
        redis: Its Redis, if it has one.
        ways: The names of the ways it can be asked in; None for all.
    """

    ways: frozenset[str] | None = None
    redis: RedisServer | None = None
    look_seconds = 0.05

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(folder / "log")
        self.name = self.title = name
        self.folder = folder
        self.port = free_port()
        self.key = "sk-none"
        self.model = MODEL
        self._meter: Meter | None = None

    @property
    def url(self) -> str:
        """Its base URL, without ``/v1``."""
        return f"http://127.0.0.1:{self.port}"

    def usage(self) -> Usage:
        """What it and its Redis used up to now."""
        self._meter = self._meter or Meter(self.pid, self.redis)
        return self._meter.read()

    def kill(self) -> None:
        if self._meter is not None:
            self._meter.close()
            self._meter = None
        super().kill()

    @property
    def resident_bytes(self) -> int:
        """The memory it has for itself."""
        return resident_bytes(self.pid)


class CheckoutGateway(Subject):
    """``python -m cloister_gateway`` of a checkout that has its ``.venv``, with its settings but for what they need."""

    def __init__(
        self, name: str, folder: Path, checkout: Path, redis: RedisServer | RedisCluster, pod: MockPod, **more: Any
    ) -> None:
        super().__init__(name, folder)
        self.redis = redis if isinstance(redis, RedisServer) else None
        self.admin_key = ""
        self._checkout = checkout
        self._python = sys.executable if checkout == ROOT else str(checkout / ".venv/bin/python")
        token = str(secret_file(folder, "token", INTERNAL_TOKEN))
        # Written by hand: the settings of the version that runs this may not be those of the one it starts.
        settings = {
            "server": {"port": self.port, "metrics_port": free_port(), "shutdown_seconds": 1},
            "vault": {"root_key_file": str(secret_file(folder, "root"))},
            "identity": {"pepper_file": str(secret_file(folder, "pepper", secrets.token_hex(32)))},
            "redis": redis.settings,
            "models": {MODEL: {"urls": [pod.url], "context_tokens": CONTEXT_TOKENS}},
            "llm": {"token_file": token},
            "embedder": {"url": "http://127.0.0.1:1", "token_file": token},
            "retriever": {"url": "http://127.0.0.1:1", "token_file": token},
            **more,
        }
        self._config = folder / "gateway.yaml"
        self._config.write_text(yaml.safe_dump(settings), encoding="utf-8")

    def command(self) -> Sequence[str]:
        return on_own_core([self._python, "-m", "cloister_gateway", "--config", str(self._config)])

    def folder_of_work(self) -> Path:
        return self._checkout

    def answers(self) -> bool:
        return _answers(f"{self.url}/livez")

    def bootstrap(self) -> None:
        """Makes the key that callers send, and an administrator's."""
        command = [self._python, "-m", "cloister_gateway", "bootstrap", "--config", str(self._config)]
        made = subprocess.run(
            [*command, "--format", "env"], cwd=self._checkout, check=True, capture_output=True, text=True
        )
        lines = dict(line.split("=", 1) for line in made.stdout.splitlines() if "=" in line)
        self.key, self.admin_key = lines["OPENAI_API_KEY"], lines.get("CLOISTER_ADMIN_KEY", "")


@contextmanager
def gateway_of(checkout: Path, folder: Path, pod: MockPod, *, name: str, **more: Any) -> Iterator[CheckoutGateway]:
    """A serving gateway of a checkout, with everything on and a Redis of its own that loses nothing.

    Args:
        checkout: Its folder.
        folder: Where its files lie; made.
        pod: Its only llm pod.
        name: What tables call it.
        more: Sections of its settings.
    """
    with ExitStack() as stack:
        folder.mkdir(parents=True)
        redis_folder = folder / "redis"
        redis_folder.mkdir()
        redis = RedisOnDisk(redis_folder).start()
        stack.callback(redis.kill)
        gateway = CheckoutGateway(name, folder, checkout, redis, pod, **more)
        gateway.bootstrap()
        stack.callback(gateway.kill)
        yield gateway.start()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
