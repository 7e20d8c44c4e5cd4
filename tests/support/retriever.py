"""A real retriever in a process of its own, so that it can be killed and started again on the same data."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import yaml
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.internal import TENANT_HEADER, InternalTokens
from cloister_common.settings import ClientTls
from cloister_common.testing.serving import free_port

from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.models import MINILM, minilm_folder
from tests.support.process import Process
from tests.support.sdk import closing

__all__ = ["RETRIEVER_TOKEN", "TENANT", "RetrieverMaker", "RetrieverProcess"]

RETRIEVER_TOKEN = "retriever-token-0123456789abcdef0123456789"
TENANT = "proj_alpha"


class RetrieverProcess(Process):
    """``python -m cloister_retriever`` with a settings file in ``folder``.

    Args:
        folder: Keys, settings, blobs and the log.
        milvus_uri: The Milvus to use.
        embedder_url: The embedder to use.
        changes: Settings that differ from the usual ones, merged section by section.
    """

    title = "the retriever"
    start_seconds = 180.0

    def __init__(self, folder: Path, *, milvus_uri: str, embedder_url: str, **changes: dict[str, Any] | str) -> None:
        super().__init__(folder / "retriever.log")
        self.folder = folder
        self.blobs = folder / "blobs"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.metrics_url = f"http://127.0.0.1:{free_port()}"
        settings: dict[str, Any] = {
            "server": {
                "port": self.port,
                "metrics_port": int(self.metrics_url.rsplit(":", 1)[1]),
                "shutdown_seconds": 2,
            },
            # The most there is to see, so that tests see it.
            "log": {"level": "debug"},
            "role": "all",
            "token_file": _secret(folder / "retriever.token", RETRIEVER_TOKEN),
            "vault": {"root_key_file": _secret(folder / "root.key", "0123456789abcdef" * 4)},
            "embedder": {
                "url": embedder_url,
                "token_file": _secret(folder / "embedder.token", EMBEDDER_TOKEN),
                "model": MINILM,
            },
            "milvus": {"uri": milvus_uri, "timeout_seconds": 5},
            "blobs": {"url": self.blobs.as_uri()},
            # What is in Milvus is to be tested. Stores that are sealed are asked for by name.
            "protection": {"default": "standard"},
            "ingestion": {"tokenizer_path": str(minilm_folder()), "lease_seconds": 2, "parse_seconds": 20},
        }
        for section, change in changes.items():
            settings[section] = {**settings.get(section, {}), **change} if isinstance(change, dict) else change
        self._config = folder / "retriever.yaml"
        self._config.write_text(yaml.safe_dump(settings))

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "cloister_retriever", "--config", str(self._config)]

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/livez", timeout=5).is_success
        except httpx.TransportError:
            return False

    def headers(self, tenant: str = TENANT) -> dict[str, str]:
        return InternalTokens([RETRIEVER_TOKEN.encode()]).headers(tenant)

    def openai(self, tenant: str = TENANT) -> openai.OpenAI:
        """The official SDK, pointed at the retriever as the gateway would."""
        return closing(
            openai.OpenAI(
                base_url=f"{self.url}/v1",
                api_key=RETRIEVER_TOKEN,
                default_headers={TENANT_HEADER: tenant},
                max_retries=0,
                timeout=60,
            )
        )

    def client(self) -> RetrieverClient:
        """The gateway's client."""
        return RetrieverClient(self.url, InternalTokens([RETRIEVER_TOKEN.encode()]), ClientTls())

    def http(self, tenant: str = TENANT) -> httpx.Client:
        """A plain client that sends token and tenant."""
        return httpx.Client(base_url=self.url, headers=self.headers(tenant), timeout=60)

    def metrics(self) -> httpx.Client:
        """A plain client of the metrics' port."""
        return httpx.Client(base_url=self.metrics_url, timeout=10)


RetrieverMaker = Callable[..., RetrieverProcess]
"""Takes a Milvus URI and changes of settings; the fixture that gives it kills what it made."""


def _secret(path: Path, value: str) -> str:
    path.write_text(value)
    path.chmod(0o600)
    return str(path)
