"""Gateways of a test's own: those that share nothing with other tests, and one that may be killed or stopped."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.gateway import GatewayFixture
from tests.support.gateway_process import GatewayProcess


@pytest.fixture
def installed(make_gateway: Callable[..., GatewayFixture]) -> GatewayFixture:
    """An installation."""
    return make_gateway()


@pytest.fixture
def process(installed: GatewayFixture, tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway of it, in a process of its own."""
    gateway = GatewayProcess(tmp_path / "process", installed.settings)
    gateway.start()
    yield gateway
    gateway.kill()
