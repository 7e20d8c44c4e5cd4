"""The real vLLM pod and its fake, side by side, under one name and one client."""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cloister_common.internal import InternalTokens
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore
from cloister_gateway.model_settings import LlmSettings, ModelSettings
from cloister_gateway.models import Catalog, ModelUpstream, open_upstream

from tests.support.gateway import INTERNAL_TOKEN, secret_file
from tests.support.llm import LlmServer

MODEL = "chat"
CONTEXT_TOKENS = 2048


@dataclass(frozen=True)
class Pod:
    """One of the two.

    Attributes:
        url: Where it answers.
        token: The internal token it asks for.
        fake: The fake, if it is that one.
        metrics_url: Where the real one counts.
    """

    url: str
    token: str
    fake: FakeLlm | None = None
    metrics_url: str = ""

    def running(self) -> float:
        """How many generations run in it."""
        if self.fake is not None:
            return self.fake.running
        text = httpx.get(self.metrics_url, timeout=30).text
        found = re.search(r"^vllm:num_requests_running\{.*\} ([0-9.]+)$", text, re.MULTILINE)
        assert found is not None
        return float(found[1])


@pytest.fixture
def real(vllm_pod: LlmServer) -> Pod:
    metrics = f"http://127.0.0.1:{vllm_pod.metrics_port}/metrics"
    return Pod(vllm_pod.url, vllm_pod.token, metrics_url=metrics)


@pytest.fixture
def fake() -> Iterator[Pod]:
    llm = FakeLlm(
        model=MODEL, token=INTERNAL_TOKEN, context_tokens=CONTEXT_TOKENS, answer=[f" w{n}" for n in range(99)]
    )
    with served(llm) as url:
        yield Pod(url, INTERNAL_TOKEN, llm)


@pytest.fixture(params=["real", "fake"])
def pod(request: pytest.FixtureRequest) -> Pod:
    """Each of the two."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Pod)
    return found


@pytest.fixture
async def http(pod: Pod) -> AsyncIterator[httpx.AsyncClient]:
    """A plain client with the pod's token."""
    headers = {"authorization": f"Bearer {pod.token}"}
    async with httpx.AsyncClient(base_url=pod.url, headers=headers, timeout=300) as client:
        yield client


@pytest.fixture
async def upstream(pod: Pod, tmp_path: Path) -> AsyncIterator[ModelUpstream]:
    """The gateway's own client."""
    catalog = Catalog.of({MODEL: ModelSettings(urls=[pod.url], context_tokens=CONTEXT_TOKENS)})
    settings = LlmSettings(token_file=secret_file(tmp_path, "token", pod.token))
    keyring = Keyring("gateway", FileRootKey(secret_file(tmp_path, "root")), MemoryKeyStore())
    async with open_upstream(catalog, settings, InternalTokens([pod.token.encode()]), keyring) as opened:
        yield opened
