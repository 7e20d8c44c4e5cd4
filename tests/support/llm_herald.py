"""What answers in the place of a llm pod's vLLM while it loads, without a vLLM behind it."""

import os
import secrets
import signal
from pathlib import Path
from typing import Any

import yaml
from cloister_common.testing.serving import free_port
from cloister_llm.settings import HERALD_VARIABLE, LISTENER_VARIABLE, LlmSettings
from cloister_llm.starting.herald import start_herald
from cloister_llm.starting.phases import Phase, note

__all__ = ["RunningHerald"]


class RunningHerald:
    """One that this process has started, as the launcher does.

    Args:
        folder: Where its settings and what it reads lie.
        server: More of its ``server``.

    Attributes:
        left: What vLLM's process would find in its environment.
    """

    def __init__(self, folder: Path, **server: Any) -> None:
        self.port = free_port()
        self.url = f"http{'s' if 'tls' in server else ''}://127.0.0.1:{self.port}"
        self.token: str = secrets.token_hex(32)
        self.headers = {"authorization": f"Bearer {self.token}"}
        (folder / "token").write_text(self.token)
        (folder / "cache").mkdir()
        data = {
            "token_file": str(folder / "token"),
            "model": {"name": "chat", "path": str(folder)},
            "engine": {"cache_dir": str(folder / "cache")},
            "server": {"port": self.port, "metrics_port": free_port(), **server},
        }
        (folder / "llm.yaml").write_text(yaml.safe_dump(data))
        self.left = start_herald(LlmSettings.model_validate(data), folder / "llm.yaml")
        self._phase_file = folder / "cache/phase"

    @property
    def listener(self) -> int:
        """The socket that it has in common with this process."""
        return int(self.left[LISTENER_VARIABLE])

    def note(self, phase: Phase) -> None:
        """Says how far the model is, as vLLM's engine does."""
        note(self._phase_file, phase)

    def kill(self) -> None:
        """Ends it, if it is still there, and lets the socket go."""
        try:
            os.kill(int(self.left[HERALD_VARIABLE]), signal.SIGKILL)
            os.waitpid(int(self.left[HERALD_VARIABLE]), 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.listener)
