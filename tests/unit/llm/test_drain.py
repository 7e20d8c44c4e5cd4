"""The end of a pod: what is running may finish, what does not is ended."""

import asyncio
import contextlib

import pytest
from cloister_common.supervisor import Supervisor
from cloister_llm.guard.drain import Drain


async def request(drain: Drain, done: asyncio.Event) -> str:
    with drain.request():
        await done.wait()
    return "whole"


async def begun(drain: Drain, *dones: asyncio.Event) -> list[asyncio.Task[str]]:
    """Requests that are running already."""
    tasks = [asyncio.ensure_future(request(drain, done)) for done in dones]
    await asyncio.sleep(0)
    return tasks


async def test_running_requests_finish_before_the_stop() -> None:
    drain, done, stopped = Drain(30, Supervisor()), asyncio.Event(), asyncio.Event()
    (task,) = await begun(drain, done)
    drain.begin(stopped.set)
    await asyncio.sleep(0)
    assert not stopped.is_set()
    done.set()
    await asyncio.wait_for(stopped.wait(), 30)
    assert await task == "whole"


async def test_what_does_not_finish_in_time_is_cancelled() -> None:
    drain, quick, never, stopped = Drain(0.05, Supervisor()), asyncio.Event(), asyncio.Event(), asyncio.Event()
    short, long = await begun(drain, quick, never)
    drain.begin(stopped.set)
    quick.set()
    await asyncio.wait_for(stopped.wait(), 30)
    assert await short == "whole"
    with pytest.raises(asyncio.CancelledError):
        await long


async def test_a_request_that_does_not_hear_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister_llm.guard.drain._CANCEL_SECONDS", 0.05)
    drain, done, stopped = Drain(0, Supervisor()), asyncio.Event(), asyncio.Event()

    async def deaf() -> None:
        with drain.request():
            with contextlib.suppress(asyncio.CancelledError):
                await done.wait()
            await done.wait()

    task = asyncio.ensure_future(deaf())
    await asyncio.sleep(0)
    drain.begin(stopped.set)
    await asyncio.wait_for(stopped.wait(), 30)
    assert not task.done()
    done.set()
    await task


async def test_a_second_signal_changes_nothing() -> None:
    drain, stopped = Drain(0, Supervisor()), []
    drain.begin(lambda: stopped.append(1))
    drain.begin(lambda: stopped.append(2))
    while not stopped:
        await asyncio.sleep(0)
    assert stopped == [1]
