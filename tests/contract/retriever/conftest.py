"""The real retriever over Milvus Lite and its fake, side by side."""

import secrets
from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from cloister_common.clients.call import RetryPolicy
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.internal import TENANT_HEADER, InternalTokens
from cloister_common.settings import ClientTls
from cloister_common.testing.embedder import FakeEmbedder
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.serving import served

from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.milvus import MilvusLite
from tests.support.retriever import RETRIEVER_TOKEN, RetrieverProcess
from tests.support.sdk import closing


@pytest.fixture(scope="session")
def real_url(milvus_lite: MilvusLite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(FakeEmbedder(EMBEDDER_TOKEN)) as embedder:
        retriever = RetrieverProcess(
            tmp_path_factory.mktemp("retriever"), milvus_uri=milvus_lite.uri, embedder_url=embedder
        ).start()
        yield retriever.url
        retriever.stop()


@pytest.fixture(scope="session")
def fake_url() -> Iterator[str]:
    with served(FakeRetriever(RETRIEVER_TOKEN)) as url:
        yield url


@pytest.fixture(params=["real", "fake"])
def url(request: pytest.FixtureRequest) -> str:
    """Each of the two."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def tenant() -> str:
    return f"proj_{secrets.token_hex(8)}"


@pytest.fixture
def sdk(url: str, tenant: str) -> openai.OpenAI:
    headers = {TENANT_HEADER: tenant}
    return closing(openai.OpenAI(base_url=f"{url}/v1", api_key=RETRIEVER_TOKEN, default_headers=headers, max_retries=0))


@pytest.fixture
async def client(url: str) -> AsyncIterator[RetrieverClient]:
    retry = RetryPolicy(attempts=2, first_seconds=0.01, longest_seconds=0.02)
    client = RetrieverClient(url, InternalTokens([RETRIEVER_TOKEN.encode()]), ClientTls(), retry=retry)
    yield client
    await client.close()
