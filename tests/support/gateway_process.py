"""A gateway as a process of its own, started as in production, that a test can kill."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import yaml
from cloister_common.testing.serving import free_port
from cloister_gateway.settings import GatewaySettings

from tests.support.waiting import wait_until

__all__ = ["GatewayProcess"]

_WRONG_CLOCK = """
import runpy, time
right = time.time
time.time = lambda: right() + {ahead}
runpy.run_module("cloister_gateway", run_name="__main__", alter_sys=True)
"""


class GatewayProcess:
    """``python -m cloister_gateway --config FILE``.

    Args:
        folder: Where its settings file and log lie.
        settings: Its settings; ports are its own.
        shutdown_seconds: How long open requests may take after SIGTERM.
        clock_ahead_seconds: How much its clock goes before that of this machine.
    """

    def __init__(
        self,
        folder: Path,
        settings: GatewaySettings,
        *,
        shutdown_seconds: float = 1,
        clock_ahead_seconds: float = 0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._port = free_port()
        server = {"port": self._port, "metrics_port": free_port(), "shutdown_seconds": shutdown_seconds}
        values = {**settings.model_dump(mode="json"), "server": server}
        self._config = folder / "gateway.yaml"
        self._config.write_text(yaml.safe_dump(values), encoding="utf-8")
        self._run = ["-m", "cloister_gateway"]
        if clock_ahead_seconds:
            self._run = ["-c", _WRONG_CLOCK.format(ahead=clock_ahead_seconds)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its base URL, without ``/v1``."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._run, "--config", str(self._config)], stdout=log, stderr=log
            )
        wait_until(self._answers, seconds=60, what="the start of the gateway")

    def kill(self) -> None:
        """Ends it as ``kill -9`` does."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """Ends it in order; gives its exit code."""
        return self._end(signal.SIGTERM)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text(encoding="utf-8")[-2000:]
        try:
            return httpx.get(f"{self.url}/livez", timeout=1).status_code == 200
        except httpx.TransportError:
            return False

    def _end(self, number: int) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        code = self._process.wait(60)
        self._process = None
        return code
