"""The real embedder and its fake, side by side."""

from collections.abc import AsyncIterator, Iterator

import pytest
from cloister_common.testing.embedder import FakeEmbedder
from cloister_common.testing.serving import served

from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.embedder_service import CLIP, RERANKER, ClientMaker
from tests.support.models import MINILM


@pytest.fixture(scope="session")
def real_url(real_embedder_url: str) -> str:
    return real_embedder_url


@pytest.fixture(scope="session")
def fake_url() -> Iterator[str]:
    models = {MINILM: "text", CLIP: "image", RERANKER: "rerank"}
    with served(FakeEmbedder(EMBEDDER_TOKEN, models=models)) as url:  # type: ignore[arg-type] # dict of literals
        yield url


@pytest.fixture(params=["real", "fake"])
def url(request: pytest.FixtureRequest) -> str:
    """Each test that takes it runs against both."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def make_client() -> AsyncIterator[ClientMaker]:
    maker = ClientMaker()
    yield maker
    await maker.close()
