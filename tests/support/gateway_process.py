"""A gateway as a process of its own, started as in production, that a test can kill."""

import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import yaml
from cloister_common.testing.serving import free_port
from cloister_gateway.settings import GatewaySettings

from tests.support.process import Process

__all__ = ["GatewayProcess"]

_WRONG_CLOCK = """
import runpy, time
right = time.time
time.time = lambda: right() + {ahead}
runpy.run_module("cloister_gateway", run_name="__main__", alter_sys=True)
"""


class GatewayProcess(Process):
    """``python -m cloister_gateway --config FILE``.

    Args:
        folder: Where its settings file and log lie.
        settings: Its settings; ports are its own.
        shutdown_seconds: How long open requests may take after SIGTERM.
        clock_ahead_seconds: How much its clock goes before that of this machine.
    """

    title = "the gateway"

    def __init__(
        self,
        folder: Path,
        settings: GatewaySettings,
        *,
        shutdown_seconds: float = 1,
        clock_ahead_seconds: float = 0,
    ) -> None:
        super().__init__(folder / "log")
        self._port = free_port()
        server = {"port": self._port, "metrics_port": free_port(), "shutdown_seconds": shutdown_seconds}
        values = {**settings.model_dump(mode="json"), "server": server}
        self._config = folder / "gateway.yaml"
        self._config.write_text(yaml.safe_dump(values), encoding="utf-8")
        self._run = ["-m", "cloister_gateway"]
        if clock_ahead_seconds:
            self._run = ["-c", _WRONG_CLOCK.format(ahead=clock_ahead_seconds)]

    @property
    def url(self) -> str:
        """Its base URL, without ``/v1``."""
        return f"http://127.0.0.1:{self._port}"

    def command(self) -> Sequence[str]:
        return [sys.executable, *self._run, "--config", str(self._config)]

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/livez", timeout=5).status_code == 200
        except httpx.TransportError:
            return False
