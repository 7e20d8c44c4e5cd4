"""One embedder with real models for all tests of this folder."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.embedder_service import ClientMaker, real_embedder


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_embedder(tmp_path_factory.mktemp("embedder")) as url:
        yield url


@pytest.fixture
async def make_client() -> AsyncIterator[ClientMaker]:
    maker = ClientMaker()
    yield maker
    await maker.close()
