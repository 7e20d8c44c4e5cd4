"""Real Milvus servers, an embedder, and retrievers over them. Each test has a tenant of its own."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from cloister_common.testing.embedder import FakeEmbedder
from cloister_common.testing.serving import served

from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.milvus import MilvusLite
from tests.support.models import MINILM
from tests.support.retriever import RetrieverMaker, RetrieverProcess

OTHER_MODEL = "another-model"
"""What vector stores can be embedded with anew."""


@pytest.fixture(scope="session")
def fake_embedder() -> Iterator[FakeEmbedder]:
    embedder = FakeEmbedder(EMBEDDER_TOKEN, models={MINILM: "text", OTHER_MODEL: "text"})
    with served(embedder) as url:
        embedder.url = url  # type: ignore[attr-defined] # where this session's instance is served
        yield embedder


@pytest.fixture(scope="session")
def embedder_url(fake_embedder: FakeEmbedder) -> str:
    return str(fake_embedder.url)  # type: ignore[attr-defined] # set above


@pytest.fixture(scope="session")
def lite_retriever(
    milvus_lite: MilvusLite, embedder_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RetrieverProcess]:
    """A retriever over Milvus Lite for tests that leave it running."""
    retriever = RetrieverProcess(
        tmp_path_factory.mktemp("retriever-lite"), milvus_uri=milvus_lite.uri, embedder_url=embedder_url
    )
    yield retriever.start()
    retriever.stop()


@pytest.fixture(params=["milvus_lite", "milvus_235"], scope="session")
def retriever(
    request: pytest.FixtureRequest, embedder_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RetrieverProcess]:
    """A retriever over each Milvus in turn."""
    milvus = request.getfixturevalue(request.param)
    running = RetrieverProcess(
        tmp_path_factory.mktemp(f"retriever-{request.param}"), milvus_uri=milvus.uri, embedder_url=embedder_url
    )
    yield running.start()
    running.stop()


@pytest.fixture
def make_retriever(embedder_url: str, tmp_path: Path) -> Iterator[RetrieverMaker]:
    """Makes retrievers that a test may kill."""
    made: list[RetrieverProcess] = []

    def make(milvus_uri: str, *, name: str = "retriever", **changes: Any) -> RetrieverProcess:
        retriever = RetrieverProcess(tmp_path / name, milvus_uri=milvus_uri, embedder_url=embedder_url, **changes)
        made.append(retriever)
        return retriever

    yield make
    for retriever in made:
        retriever.kill()


@pytest.fixture
def tenant() -> str:
    return f"proj_{secrets.token_hex(8)}"


@pytest.fixture
def sdk(retriever: RetrieverProcess, tenant: str) -> openai.OpenAI:
    """The official SDK on either Milvus."""
    return retriever.openai(tenant)


@pytest.fixture
def lite_sdk(lite_retriever: RetrieverProcess, tenant: str) -> openai.OpenAI:
    """The official SDK over Milvus Lite."""
    return lite_retriever.openai(tenant)
