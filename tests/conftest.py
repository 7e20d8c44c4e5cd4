"""Every async test runs on asyncio through anyio's plugin (``anyio_mode = "auto"``), without a mark of its own."""

import hypothesis
import pytest

pytest_plugins = ["tests.support.shared", "tests.support.openai_schema.traffic"]

# A busy machine makes single examples slow; how slow is the benchmarks' business.
hypothesis.settings.register_profile("cloister", deadline=None)
hypothesis.settings.load_profile("cloister")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
