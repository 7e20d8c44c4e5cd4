"""One embedder with real models for all tests of this folder."""

from collections.abc import AsyncIterator

import pytest
from cloister_common.clients import embedder

from tests.support.embedder_service import ClientMaker


@pytest.fixture(scope="session")
def url(real_embedder_url: str) -> str:
    return real_embedder_url


@pytest.fixture
async def make_client() -> AsyncIterator[ClientMaker]:
    maker = ClientMaker()
    yield maker
    await maker.close()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still, or computes with all it has, is no embedder that is away."""
    monkeypatch.setattr(embedder, "AWAY_SECONDS", 30.0)
