"""Every async test runs on asyncio through anyio's plugin (``anyio_mode = "auto"``), without a mark of its own."""

import inspect

import httpx
import hypothesis
import pytest

pytest_plugins = ["tests.support.shared", "tests.support.openai_schema.traffic"]

# A busy machine makes examples slow, one or the making of all; how slow is the benchmarks' business.
hypothesis.settings.register_profile("cloister", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("cloister")


# Nor does a call of a test end where nobody said how long it may take: httpx would give it five seconds, of which a
# machine that stands still takes half. (All of its defaults are this one object. What we serve says how long it waits.)
_unsaid = inspect.signature(httpx.Client).parameters["timeout"].default
_unsaid.connect = _unsaid.read = _unsaid.write = _unsaid.pool = 60.0


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
