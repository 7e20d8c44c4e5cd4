"""Peers to measure the gateway beside, each in an environment of its own that is made where it is missing.

They do less: no stored state, no sealing, no rights; the numbers beside ours are to be read so. Each runs as its
authors recommend for one core, with what it logs turned down as far as it goes.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import yaml
from cloister_common.testing.serving import free_port

from tests.bench.gateway.mock import MODEL
from tests.bench.gateway.subjects import ROOT, MockPod, Subject, on_own_core

__all__ = ["REFERENCES", "peers_of"]

_ENVIRONMENTS = ROOT / ".venv-bench"
"""Ignored by git, as every ``.venv*`` is."""

REFERENCES = (
    "For reference, measured elsewhere and not in this run: production-stack's Python router, which is in no package,",
    "1,025 req/s of plain chat, 77 µs a streamed token, first token 1.4 ms alone and 55 ms of 64 at once.",
)


class _Peer(Subject):
    """A peer's process.

    Args:
        name: What tables call it.
        folder: Where its files lie.
        command: Its program in its environment, and arguments, in which ``{port}`` stands for its port.
        ways: How it can be asked.
    """

    start_seconds = 120.0

    def __init__(self, name: str, folder: Path, command: Sequence[str], ways: frozenset[str]) -> None:
        super().__init__(name, folder)
        self.ways = ways
        self._command = [argument.format(port=self.port) for argument in command]

    def command(self) -> Sequence[str]:
        return on_own_core(self._command)

    def environment(self) -> Mapping[str, str]:
        # Nothing of ours: what comes from a registry, with all that it brings, has no business with it. LiteLLM would
        # fetch its list of prices from the network.
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def folder_of_work(self) -> Path:
        return self.folder

    def answers(self) -> bool:
        body = {"model": self.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        headers = {"authorization": f"Bearer {self.key}"}
        try:
            return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=10).is_success
        except httpx.TransportError:
            return False


_CHAT = frozenset({"chat", "chat-stream"})
_RESPONSES = frozenset({"sse"})
"""Responses that the pod makes, and they pass on: nothing is stored."""


def _litellm(folder: Path, pod: MockPod) -> Subject:
    model = {"model": f"hosted_vllm/{MODEL}", "api_base": f"{pod.url}/v1", "api_key": "none"}
    settings = {
        "model_list": [{"model_name": MODEL, "litellm_params": model}],
        "general_settings": {"master_key": "sk-none"},
        "router_settings": {"disable_cooldowns": True},
    }
    config = folder / "litellm.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    program = _installed("litellm", "litellm[proxy]==1.100.0")
    arguments = ["--config", str(config), "--num_workers", "1", "--telemetry", "False"]
    place = ["--host", "127.0.0.1", "--port", "{port}"]
    return _Peer("LiteLLM 1.100", folder, [program, *arguments, *place], _CHAT | _RESPONSES)


def _vllm_router(folder: Path, pod: MockPod) -> Subject:
    program = _installed("vllm-router", "vllm-router==0.1.17")
    arguments = ["--worker-urls", pod.url, "--policy", "consistent_hash", "--log-level", "error"]
    return _Peer("vllm-router 0.1.17", folder, [program, *arguments, *_on_loopback()], _CHAT)


def _smg(folder: Path, pod: MockPod) -> Subject:
    program = _installed("smg", "smg==1.13.0")
    arguments = ["launch", "--worker-urls", pod.url, "--policy", "cache_aware", "--log-level", "error"]
    return _Peer("smg 1.13", folder, [program, *arguments, *_on_loopback()], _CHAT | _RESPONSES)


def _on_loopback() -> Sequence[str]:
    return ["--host", "127.0.0.1", "--port", "{port}", "--prometheus-port", str(free_port())]


_PEERS = {"litellm": _litellm, "vllm-router": _vllm_router, "smg": _smg}


@contextmanager
def peers_of(folder: Path, pod: MockPod) -> Iterator[list[Subject]]:
    """All peers, serving in front of ``pod``."""
    with ExitStack() as stack:
        started = []
        for name, make in _PEERS.items():
            place = folder / name
            place.mkdir(parents=True)
            peer = make(place, pod)
            stack.callback(peer.kill)
            started.append(peer.start())
        yield started


def _installed(name: str, requirement: str) -> str:
    """The program ``name`` of an environment that has ``requirement``; the first time it takes a minute."""
    folder = _ENVIRONMENTS / name
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != requirement:
        print(f"installing {requirement} into {folder.relative_to(ROOT)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
        subprocess.run([*pip, "install", "--only-binary", ":all:", requirement], check=True)
        stamp.write_text(requirement)
    return str(folder / "bin" / name)
