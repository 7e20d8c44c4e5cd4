"""The peers that are dear to start, once for a whole run of pytest, whichever folders' tests use them.

Nothing is imported before a test asks for its peer: the unit tests start without torch and pymilvus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.llm import LlmServer
    from tests.support.milvus import MilvusLite, MilvusServer235
    from tests.support.stack import Stack

__all__ = ["launched_pod", "milvus_235", "milvus_lite", "page_port", "real_embedder_url", "stack", "vllm_pod"]


@pytest.fixture(scope="session")
def milvus_lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusLite]:
    """A Milvus Lite server. Who kills one starts one of their own."""
    from tests.support.milvus import MilvusLite

    server = MilvusLite(tmp_path_factory.mktemp("milvus-lite"))
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def milvus_235(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer235]:
    """A Milvus 2.3.5 server: about 8 seconds to start, 400 MB of memory."""
    from tests.support.milvus import MilvusServer235

    server = MilvusServer235(tmp_path_factory.mktemp("milvus-235"))
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def real_embedder_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real embedder over MiniLM and two tiny models."""
    from tests.support.embedder_service import real_embedder

    with real_embedder(tmp_path_factory.mktemp("embedder")) as url:
        yield url


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests without the pod run while it starts, and last the one that ends it. Else the order stays as it was."""
    items.sort(key=lambda item: (_asks_pod(item), item.get_closest_marker("ends_the_pod") is not None))


def _asks_pod(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    chosen = item.callspec.params.get("pod") if hasattr(item, "callspec") else None  # of the contract's two
    return "vllm_pod" in item.fixturenames or chosen == "real"


@pytest.fixture(scope="session", autouse=True)
def begun_early(request: pytest.FixtureRequest) -> None:
    """Begins to start the pod before the first test, where one will ask it."""
    if any(map(_asks_pod, request.session.items)):
        request.getfixturevalue("launched_pod")


@pytest.fixture(scope="session")
def launched_pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmServer]:
    """The real pod, which may still be starting."""
    from tests.support.llm import LlmServer

    limits = {"head_seconds": 5, "body_window_seconds": 5}  # short, so that tests of them are
    server = LlmServer(tmp_path_factory.mktemp("llm"), shutdown_seconds=20, limits=limits)
    server.launch()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def vllm_pod(launched_pod: LlmServer) -> LlmServer:
    """A real pod, which answers with the small chat model: half a minute of both cores to start."""
    launched_pod.wait_until_ready()
    return launched_pod


@pytest.fixture(scope="session")
def page_port() -> int:
    """The port of loopback whose pages the stack lets in."""
    from cloister_common.testing.serving import free_port

    return free_port()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, page_port: int) -> Iterator[Stack]:
    """The whole stack, by the runner of `make run`, with vLLM, on free ports."""
    from tests.support.stack import running_stack

    pages = {"origins": [f"http://127.0.0.1:{page_port}"]}
    with running_stack(tmp_path_factory.mktemp("stack"), {"overrides": {"gateway": {"browsers": pages}}}) as running:
        yield running
