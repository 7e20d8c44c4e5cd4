"""Every async test runs on asyncio through anyio's plugin (``anyio_mode = "auto"``), without a mark of its own."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
