"""Connections that all callers share: each gets its own answer, and what happens to one happens to no other."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage.client import REDIS_DOWN, command_client
from redis.exceptions import ExecAbortError, ResponseError, WatchError

from tests.support.redis_server import RedisServer
from tests.support.waiting import until


@pytest.fixture
async def shared(redis_server: RedisServer) -> AsyncIterator[Any]:
    """The gateway's client, at a Redis that the test may stop. (Untyped, as pipelines are chained.)"""
    client = command_client(RedisSettings.model_validate(redis_server.settings))
    yield client
    await client.aclose()


@pytest.fixture
async def hasty(redis_server: RedisServer) -> AsyncIterator[Any]:
    """One that waits for a second only, for who wants to see that."""
    client = command_client(RedisSettings.model_validate({**redis_server.settings, "timeout_seconds": 1}))
    yield client
    await client.aclose()


def connections(server: RedisServer) -> list[dict[str, Any]]:
    """Those of others than the one who asks."""
    with server.client() as client:
        own = client.client_id()
        return [one for one in client.client_list() if int(one["id"]) != own]


async def test_a_thousand_callers_at_once_share_few_connections_and_each_gets_its_own_answer(
    shared: Any, redis_server: RedisServer
) -> None:
    async def one(number: int) -> None:
        await shared.set(f"key {number}", str(number) * (number % 50))
        assert await shared.get(f"key {number}") == str(number).encode() * (number % 50)

    await asyncio.gather(*(one(number) for number in range(1000)))
    assert len(connections(redis_server)) <= 4


async def test_caller_that_is_cancelled_disturbs_no_other(shared: Any) -> None:
    await shared.set("key", "value")
    callers = [asyncio.create_task(shared.get("key" if number % 2 else "none")) for number in range(100)]
    await asyncio.sleep(0)
    for caller in callers[::3]:
        caller.cancel()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    for number, answer in enumerate(answers):
        if number % 3:
            assert answer == (b"value" if number % 2 else None)
        else:
            assert isinstance(answer, asyncio.CancelledError)


async def test_line_that_breaks_fails_what_was_sent_on_it_and_nothing_after_it(
    shared: Any, redis_server: RedisServer
) -> None:
    await shared.ping()
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        sent = [asyncio.create_task(shared.incr("number")) for _ in range(10)]
        await asyncio.sleep(0.05)
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)
        redis_server.kill()
    answers = await asyncio.gather(*sent, return_exceptions=True)
    redis_server.start()
    known = sum(isinstance(answer, int) for answer in answers)
    assert all(isinstance(answer, (int, *REDIS_DOWN)) for answer in answers)
    assert int(await shared.get("number") or 0) >= known, "what was answered has happened"
    assert await shared.ping(), "the next command opens another"


async def test_line_that_redis_closed_while_it_was_idle_is_replaced_unnoticed(
    shared: Any, redis_server: RedisServer
) -> None:
    for _ in range(3):
        assert await shared.ping()
        with redis_server.client() as client:
            for one in connections(redis_server):
                client.client_kill_filter(_id=one["id"])
        await until(lambda: not shared.lines._lines, what="the client has seen it")


async def test_redis_that_stands_still_is_a_timeout_and_goes_on_afterwards(
    hasty: Any, redis_server: RedisServer
) -> None:
    await hasty.ping()
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        for _ in range(2):  # on the line that stands, and on one that does not come to stand
            async with asyncio.timeout(10):
                with pytest.raises(REDIS_DOWN):
                    await hasty.ping()
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)
    assert await hasty.ping()


async def test_transactions_are_whole_and_tell_their_errors(shared: Any) -> None:
    async def pair() -> list[int]:
        async with shared.pipeline(transaction=True) as pipeline:
            replies: list[int] = await pipeline.incr("number").incr("number").execute()
            return replies

    for first, second in await asyncio.gather(*(pair() for _ in range(50))):
        assert second == first + 1, "nothing came between"
    async with shared.pipeline(transaction=True) as pipeline:
        pipeline.set("text", "x").incr("text").set("after", "y")
        with pytest.raises(ResponseError, match="not an integer"):
            await pipeline.execute()
    assert await shared.get("after") == b"y", "an error within a transaction undoes nothing"
    async with shared.pipeline(transaction=True) as pipeline:
        pipeline.set("never", "x").execute_command("NOSUCH")
        with pytest.raises(ResponseError) as refused:
            await pipeline.execute()
    assert not isinstance(refused.value, ExecAbortError), "the cause, not its consequence"
    assert await shared.get("never") is None
    async with shared.pipeline(transaction=False) as pipeline:
        pipeline.get("text").incr("text").hset("hash", mapping={"a": 1}).hgetall("hash")
        text, error, added, found = await pipeline.execute(raise_on_error=False)
    assert (text, added, found) == (b"x", 1, {b"a": b"1"})
    assert isinstance(error, ResponseError)


async def test_watched_transactions_still_see_what_others_write(shared: Any) -> None:
    async with shared.pipeline(transaction=True) as pipeline:
        await pipeline.watch("watched")
        await shared.set("watched", "by another")
        pipeline.multi()
        pipeline.set("watched", "by us")
        with pytest.raises(WatchError):
            await pipeline.execute()
    assert await shared.get("watched") == b"by another"


async def test_scripts_run_on_a_redis_that_has_never_seen_them(shared: Any) -> None:
    script = shared.register_script("return redis.call('INCR', KEYS[1])")
    assert await script(keys=["number"]) == 1
    await shared.script_flush()
    assert await script(keys=["number"]) == 2
    await shared.script_flush()
    async with shared.pipeline(transaction=True) as pipeline:
        await script(keys=["number"], client=pipeline)
        await script(keys=["number"], client=pipeline)
        assert await pipeline.execute() == [3, 4]


@pytest.fixture
async def loading() -> AsyncIterator[Any]:
    """The gateway's client, at a Redis that answers every command as one does that loads its data."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                arguments = [(await reader.readline(), await reader.readline())[1] for _ in range(int(line[1:]))]
                greeting = {b"HELLO": b"%1\r\n+proto\r\n:3\r\n", b"CLIENT": b"+OK\r\n"}
                loads = b"-LOADING Redis is loading the dataset in memory\r\n"
                writer.write(greeting.get(arguments[0].strip().upper(), loads))
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = command_client(RedisSettings.model_validate({"url": url, "timeout_seconds": 1}))
    yield client
    await client.aclose()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("raise_on_error", [True, False])
async def test_redis_that_still_loads_its_data_is_away_and_its_refusal_no_value(
    loading: Any, *, raise_on_error: bool
) -> None:
    async with loading.pipeline(transaction=False) as pipeline:
        with pytest.raises(REDIS_DOWN):
            await pipeline.hmget("key", ["field"]).get("key").execute(raise_on_error=raise_on_error)
    async with loading.pipeline(transaction=True) as pipeline:
        with pytest.raises(REDIS_DOWN):
            await pipeline.get("key").execute(raise_on_error=raise_on_error)
    with pytest.raises(REDIS_DOWN):
        await loading.get("key")
