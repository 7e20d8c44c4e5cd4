"""A real redis-server, a fake model, and a factory of gateways over both."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture, first_keys, gateway_settings
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="session")
def _redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis_server(_redis_process: RedisServer) -> RedisServer:
    """A running, empty redis-server. A test may kill it and start it again."""
    _redis_process.flush()
    return _redis_process


@pytest.fixture
def llm() -> FakeLlm:
    """The pod of the model ``fake``; served while the test runs, if it uses `llm_url` or a gateway."""
    return FakeLlm(token=INTERNAL_TOKEN)


@pytest.fixture
def llm_url(llm: FakeLlm) -> Iterator[str]:
    """Where `llm` is served."""
    with served(llm) as url:
        yield url


@pytest.fixture
def make_gateway(tmp_path: Path, redis_server: RedisServer, llm_url: str) -> Callable[..., GatewayFixture]:
    """Makes the settings and the first keys of an installation; keyword arguments replace settings sections."""

    def make(**sections: Any) -> GatewayFixture:
        sections.setdefault("models", {"fake": {"urls": [llm_url], "context_tokens": 2048}})
        return first_keys(gateway_settings(tmp_path / "secrets", redis_server, **sections))

    return make


@pytest.fixture
def gateway(make_gateway: Callable[..., GatewayFixture]) -> GatewayFixture:
    """An installation with one model and nothing behind it."""
    return make_gateway()


@pytest.fixture
def gateway_url(gateway: GatewayFixture) -> Iterator[str]:
    """One gateway of it, serving."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(gateway.serve())
