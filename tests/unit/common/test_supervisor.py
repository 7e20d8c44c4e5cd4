"""Background work is restarted, counted, named and ended."""

import asyncio

import pytest
from cloister_common.supervisor import Supervisor
from prometheus_client import REGISTRY

from tests.support.waiting import until
from tests.unit.common.conftest import LogLines


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister_common.supervisor._FIRST_PAUSE_SECONDS", 0.001)


def running(task: str) -> float:
    return REGISTRY.get_sample_value("cloister_tasks_running", {"task": task}) or 0


async def test_failing_loop_is_restarted_counted_and_logged_without_the_message(log_lines: LogLines) -> None:
    supervisor, turns = Supervisor(), 0

    async def body() -> None:
        nonlocal turns
        turns += 1
        if turns < 4:
            raise RuntimeError("the secret sentence of a user")
        await asyncio.Event().wait()

    supervisor.loop("t-restarts", body)
    await until(lambda: turns == 4)
    assert running("t-restarts") == 1
    assert REGISTRY.get_sample_value("cloister_task_restarts_total", {"task": "t-restarts"}) == 3
    assert [line["task"] for line in log_lines.events("background_loop_failed")] == ["t-restarts"] * 3
    assert "secret" not in log_lines.text
    await supervisor.close()
    assert running("t-restarts") == 0


async def test_loop_that_returns_runs_again(log_lines: LogLines) -> None:
    supervisor, turns = Supervisor(), 0

    async def body() -> None:
        nonlocal turns
        turns += 1

    supervisor.loop("t-returns", body)
    await until(lambda: turns > 2)
    await supervisor.close()
    assert log_lines.events("background_loop_failed") == []


async def test_failed_task_is_logged_and_the_others_go_on(log_lines: LogLines) -> None:
    supervisor, finished = Supervisor(), asyncio.Event()

    async def fails() -> None:
        raise RuntimeError("the secret sentence of a user")

    async def works() -> None:
        await asyncio.sleep(0)
        finished.set()

    failed = supervisor.spawn("t-fails", fails())
    supervisor.spawn("t-works", works())
    await failed
    await asyncio.wait_for(finished.wait(), 10)
    (line,) = log_lines.events("background_task_failed")
    assert (line["task"], line["error"]) == ("t-fails", "RuntimeError")
    assert "secret" not in log_lines.text
    await supervisor.close()


async def test_close_cancels_waits_and_lets_work_clean_up() -> None:
    supervisor, cleaned = Supervisor(), []

    async def body() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("loop")

    supervisor.loop("t-close", body)
    task = supervisor.spawn("t-spawned", body())
    await until(lambda: running("t-close") == 1)
    await asyncio.sleep(0)
    await supervisor.close()
    assert supervisor.stopping.is_set()
    assert cleaned == ["loop", "loop"]
    assert task.cancelled()
    assert running("t-close") == running("t-spawned") == 0
