"""The parts of a local stack: what is run, what it waits for, and how one knows that it is ready."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.config import Layout
from deploy.local.readiness import Probe, http_probe, port_probe, redis_probe
from deploy.local.settings import REPOSITORY, LocalSettings

__all__ = ["Part", "parts"]


@dataclass(frozen=True)
class Part:
    """One process to keep running.

    Attributes:
        needs: Parts that must be ready before this one is started; the others start side by side.
        port: Where it listens, for the record in ``run.json``.
    """

    name: str
    what: str
    command: Sequence[str]
    needs: Sequence[str]
    port: int
    log: Path
    environment: Mapping[str, str]
    probe: Probe


def parts(settings: LocalSettings, layout: Layout) -> list[Part]:
    """Every part of the stack. The secrets and the rendered settings must be there."""
    ports = settings.ports
    environment = _environment(layout)
    password = (layout.secrets / "redis-password").read_text().strip()
    certificate = settings.gateway.certificate_file
    door = "127.0.0.1" if settings.gateway.host in {"0.0.0.0", "::"} else settings.gateway.host  # noqa: S104 - compared
    door_url = f"{'https' if certificate else 'http'}://{f'[{door}]' if ':' in door else door}:{ports.gateway}"

    def part(name: str, what: str, command: Sequence[str], needs: Sequence[str], probe: Probe) -> Part:
        port: int = getattr(ports, name)
        return Part(name, what, command, needs, port, layout.logs / f"{name}.log", environment, probe)

    def service(name: str, python: str = sys.executable) -> list[str]:
        return [python, "-m", f"cloister_{name}", "--config", str(layout.config / f"{name}.yaml")]

    milvus = [sys.executable, "-m", "milvus_lite", "server", "--host", "127.0.0.1", "--port", str(ports.milvus)]
    return [
        part(
            "redis",
            "conversations, streams, keys",
            [settings.paths.redis_server, str(layout.config / "redis.conf")],
            [],
            redis_probe(ports.redis, password),
        ),
        part(
            "milvus",
            "vectors",
            [*milvus, "--data-dir", str(layout.data("milvus"))],
            [],
            port_probe(ports.milvus),
        ),
        part(
            "llm",
            f"vLLM with {settings.chat_model.name}",
            service("llm", str(REPOSITORY / settings.paths.llm_python)),
            [],
            http_probe(f"http://127.0.0.1:{ports.llm}/readyz"),
        ),
        part(
            "embedder",
            f"sentence-transformers with {settings.embedding_model.name}",
            service("embedder"),
            [],
            http_probe(f"http://127.0.0.1:{ports.embedder}/readyz"),
        ),
        part(
            "retriever",
            "documents in, passages out",
            service("retriever"),
            ["milvus", "embedder"],
            http_probe(f"http://127.0.0.1:{ports.retriever}/readyz"),
        ),
        part(
            "gateway",
            "the door",
            service("gateway"),
            ["redis"],
            http_probe(f"{door_url}/readyz", REPOSITORY / certificate if certificate else None),
        ),
    ]


def _environment(layout: Layout) -> dict[str, str]:
    """The runner's own environment, with caches inside ``var`` and nothing looked up on the network."""
    return dict(os.environ) | {
        "XDG_CACHE_HOME": str(layout.cache),
        "HF_HOME": str(layout.cache / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
