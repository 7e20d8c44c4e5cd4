"""Gateways with limits: several over one Redis, with one model pod and an embedder."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.embedder import FakeEmbedder
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture, first_keys, gateway_settings, secret_file
from tests.support.redis_server import RedisServer
from tests.support.sdk import closing


@dataclasses.dataclass
class Limited:
    """Gateways whose limits a test sets."""

    gateway: GatewayFixture
    urls: tuple[str, ...]
    llm: FakeLlm
    redis: RedisServer

    def client(self, key: str | None = None, *, at: int = 0) -> openai.OpenAI:
        """The unmodified SDK, which tries once."""
        key = key or self.gateway.project_key
        return closing(openai.OpenAI(base_url=f"{self.urls[at]}/v1", api_key=key, max_retries=0, timeout=30))

    @property
    def admin(self) -> Any:
        """The SDK's administration."""
        return self.administration()

    def administration(self, at: int = 0) -> Any:
        """The same at one of the gateways."""
        client = closing(
            openai.OpenAI(
                base_url=f"{self.urls[at]}/v1", api_key="none", admin_api_key=self.gateway.admin_key, max_retries=0
            )
        )
        return client.admin.organization

    def post(self, path: str, *, at: int = 0, key: str | None = None, **body: Any) -> httpx.Response:
        """One request, with all that its answer has."""
        headers = dict(self.gateway.headers(key))
        return httpx.post(f"{self.urls[at]}/v1/{path}", headers=headers, json=body, timeout=30)

    def chat(self, *, at: int = 0, key: str | None = None, **more: Any) -> httpx.Response:
        """A chat of seven tokens' answer."""
        body = {"model": "fake", "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 8, **more}
        return self.post("chat/completions", at=at, key=key, **body)


Limit = Callable[..., contextlib.AbstractContextManager[Limited]]


@pytest.fixture(scope="session")
def limit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limit]:
    """Makes gateways with rules, over a Redis that all tests here share, as new."""
    folder = tmp_path_factory.mktemp("limits")
    redis, llm = RedisServer(folder / "redis"), FakeLlm(token=INTERNAL_TOKEN)
    embedder = FakeEmbedder(INTERNAL_TOKEN, models={"mini": "text", "ranker": "rerank"})
    with contextlib.ExitStack() as stack:
        redis.start()
        stack.callback(redis.stop)
        pod, embedder_url = stack.enter_context(served(llm)), stack.enter_context(served(embedder))

        @contextlib.contextmanager
        def make(*rules: dict[str, Any], gateways: int = 1, **limits: Any) -> Iterator[Limited]:
            redis.flush()
            _reset(llm)
            settings = gateway_settings(
                folder,
                redis,
                models={"fake": {"urls": [pod], "context_tokens": 2048}},
                embedder={"url": embedder_url, "token_file": str(secret_file(folder, "token", INTERNAL_TOKEN))},
                limits={"rules": {f"r{number}": rule for number, rule in enumerate(rules)}, **limits},
            )
            gateway = first_keys(settings)
            with contextlib.ExitStack() as gateways_stack:
                urls = tuple(gateways_stack.enter_context(gateway.serve()) for _ in range(gateways))
                yield Limited(gateway, urls, llm, redis)

        yield make


def _reset(llm: FakeLlm) -> None:
    for field in dataclasses.fields(FakeLlm):
        if field.name not in {"requests", "running", "token"}:
            setattr(llm, field.name, getattr(FakeLlm(), field.name))
    llm.requests = []
