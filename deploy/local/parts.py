"""The parts of a local stack: what is run, what it waits for, and how one knows that it is ready."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.config import Layout
from deploy.local.disk import RedisGuard
from deploy.local.readiness import Probe, http_probe, port_probe
from deploy.local.settings import REPOSITORY, LocalSettings

__all__ = ["Part", "parts"]


@dataclass(frozen=True)
class Part:
    """One process to keep running.

    Attributes:
        needs: Parts that must be ready before this one is started; the others start side by side.
        port: Where it listens, for the record in ``run.json``; None where it has no port.
        nice: How far it stands back when processors are short, from 0 (not at all) to 19.
        rests: Whether it runs only while somebody uses it.
    """

    name: str
    what: str
    command: Sequence[str]
    needs: Sequence[str]
    port: int | None
    log: Path
    environment: Mapping[str, str]
    probe: Probe
    nice: int = 0
    rests: bool = False


_STANDS_BACK = {"milvus": 3, "retriever": 3, "embedder": 5, "llm": 5}
"""A model takes every processor it can get, and so does ingestion. Redis and the gateway need little, but at once: kept
waiting for seconds they lose leases, and callers get errors. So the kernel serves those two first. A model that
computes alone is as fast as without; beside programs that are not ours it still gets a third of what they get."""


def parts(settings: LocalSettings, layout: Layout, guard: RedisGuard) -> list[Part]:
    """Every part of the stack. The secrets and the rendered settings must be there.

    Args:
        settings: The local settings.
        layout: Where everything lies.
        guard: Opens Redis, which starts closed.
    """
    ports = settings.ports
    environment = _environment(layout)
    certificate = settings.gateway.certificate_file
    door = "127.0.0.1" if settings.gateway.host in {"0.0.0.0", "::"} else settings.gateway.host  # noqa: S104 - compared
    door_url = f"{'https' if certificate else 'http'}://{f'[{door}]' if ':' in door else door}:{ports.gateway}"

    def part(name: str, what: str, command: Sequence[str], needs: Sequence[str], probe: Probe) -> Part:
        port: int | None = getattr(ports, name, None)
        log = layout.logs / f"{name}.log"
        rests = name == "llm" and settings.chat_model.mode == "serverless"
        return Part(name, what, command, needs, port, log, environment, probe, _STANDS_BACK.get(name, 0), rests)

    def service(name: str, python: str = sys.executable) -> list[str]:
        return [python, "-m", f"cloister_{name}", "--config", str(layout.config / f"{name}.yaml")]

    milvus = [sys.executable, "-m", "deploy.local.vectors", "--data-dir", str(layout.data("milvus"))]
    return [
        part(
            "redis",
            "conversations, streams, keys",
            [settings.paths.redis_server, str(layout.config / "redis.conf")],
            [],
            guard.probe,
        ),
        part(
            "milvus",
            "vectors",
            [*milvus, "--socket", str(layout.milvus_socket), "--min-free-mib", str(settings.disk.min_free_mib)],
            [],
            port_probe(layout.milvus_socket),
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
            [],  # it looks for Milvus and the embedder when it needs them, and says so while one is missing
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
        # torch listens for workers on other machines, of which there are none, where the machine's name points.
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONUNBUFFERED": "1",
    }
