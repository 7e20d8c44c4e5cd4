"""Tiny services with tight limits on their connections: one that is plain, and one of each kind."""

from collections.abc import Iterator

import pytest

from tests.support.doors import LIMITS, Server, serving


@pytest.fixture(scope="module", params=["plain", "tls"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp(request.param), tls=request.param == "tls") as started:
        yield started


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One whose bodies may take as long as the shortest window."""
    with serving(tmp_path_factory.mktemp("hasty"), body_seconds=LIMITS["body_window_seconds"]) as started:
        yield started


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("plain")) as started:
        yield started
