"""What libraries log of their own accord says what happened and quotes nothing."""

import asyncio
import gc
from typing import Any

import pytest

from tests.unit.common.conftest import LogLines


async def _fails() -> None:
    raise ValueError("the secret sentence of a user")


async def _forget_a_failed_task() -> None:
    task = asyncio.create_task(_fails(), name="t-lost")
    await asyncio.wait([task])
    del task
    gc.collect()


async def _fail_in_a_callback() -> None:
    def callback(content: str) -> None:
        raise ValueError(content)

    asyncio.get_running_loop().call_soon(callback, "the secret sentence of a user")
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("act", "event"),
    [(_forget_a_failed_task, "Task exception was never retrieved"), (_fail_in_a_callback, "Exception")],
)
def test_what_asyncio_reports_says_where_and_quotes_nothing(act: Any, event: str, log_lines: LogLines) -> None:
    asyncio.run(act())
    (line,) = log_lines.events(event)
    assert (line["logger"], line["error"]) == ("asyncio", "ValueError")
    assert any(place.startswith("test_logs.py:") for place in line["where"])
    assert "secret" not in log_lines.text
