"""The chart as Helm renders it, once for each profile of ci/."""

from collections.abc import Callable
from functools import cache

import pytest

from tests.support.helm import PROFILES, Rendered, render


@pytest.fixture(scope="session")
def profile() -> Callable[[str], Rendered]:
    """Gives what a profile renders to."""
    return cache(render)


@pytest.fixture(params=PROFILES)
def rendered(request: pytest.FixtureRequest, profile: Callable[[str], Rendered]) -> Rendered:
    """Each profile in turn."""
    return profile(request.param)
