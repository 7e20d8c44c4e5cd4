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

__all__ = ["milvus_235", "milvus_lite", "page_port", "real_embedder_url", "stack", "vllm_pod"]


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


@pytest.fixture(scope="session")
def vllm_pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmServer]:
    """A real pod, which answers with the small chat model: half a minute of both cores to start."""
    from tests.support.llm import LlmServer

    limits = {"head_seconds": 5, "body_window_seconds": 5}  # short, so that tests of them are
    server = LlmServer(tmp_path_factory.mktemp("llm"), limits=limits)
    yield server.start()
    server.kill()


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
