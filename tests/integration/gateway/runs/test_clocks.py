"""Gateways whose clocks are an hour apart run and take over as others do: what they compare is Redis's own time."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cloister_common.ids import new_id
from cloister_common.testing.llm import FakeLlm
from cloister_gateway.runs.lease import LEASE_SECONDS, Leases
from redis.asyncio import Redis

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import GatewayFixture
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until

HOUR = 3600.0


@contextlib.contextmanager
def clock(monkeypatch: pytest.MonkeyPatch, ahead: float) -> Iterator[None]:
    """The clock of this process, ``ahead`` seconds before the right one."""
    right = time.time
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: right() + ahead)
        yield


async def redis_time(redis: Redis) -> float:
    seconds, micros = await redis.time()
    return float(seconds) + float(micros) / 1e6


@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_a_run_is_found_when_its_lease_is_over_whatever_the_clocks_say(
    ahead: float, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_id("resp_")
    with clock(monkeypatch, ahead):
        dying = Leases(redis)
        assert await dying.take(run)
        assert await dying.renew(run)
    listed = await redis.zscore("runs:active", run)
    assert listed is not None
    assert 0 < listed - await redis_time(redis) <= LEASE_SECONDS
    for survivor_ahead in (0.0, HOUR, -HOUR):
        with clock(monkeypatch, survivor_ahead):
            # Before its end the run is nobody else's, and after it anybody's.
            assert run not in await Leases(redis).abandoned()
    await redis.zincrby("runs:active", -LEASE_SECONDS, run)
    with clock(monkeypatch, -HOUR):
        assert run in await Leases(redis).abandoned()


async def test_a_run_listed_by_a_clock_of_the_future_is_found_at_once(redis: Redis) -> None:
    run = new_id("resp_")
    await redis.zadd("runs:active", {run: await redis_time(redis) + HOUR})
    assert run in await Leases(redis).abandoned()


@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_a_stream_is_kept_for_its_time_whatever_the_clocks_say(
    ahead: float, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_id("resp_")
    with clock(monkeypatch, ahead):
        leases = Leases(redis)
        await leases.ended(run, keep_seconds=300)
        assert run not in await leases.due()
    assert run not in await Leases(redis).due()
    await redis.zincrby("runs:ended", -300, run)
    with clock(monkeypatch, -HOUR):
        assert run in await Leases(redis).due()


async def test_a_run_that_is_handed_over_is_anybodys_at_once(redis: Redis) -> None:
    run = new_id("resp_")
    ending, survivor = Leases(redis), Leases(redis)
    assert await ending.take(run)
    await ending.hand_over([run])
    assert run in await survivor.abandoned()
    assert await survivor.take(run)


async def test_what_is_no_id_on_the_list_holds_up_no_other(redis: Redis) -> None:
    run = new_id("resp_")
    listed: dict[Any, float] = {b"\xff\xfe": 0, run: 1}
    await redis.zadd("runs:active", listed)
    leases = Leases(redis)
    assert run in await leases.abandoned()
    assert await redis.zscore("runs:active", b"\xff\xfe") is None


@pytest.mark.parametrize("kind", ["without an end", "of another type"])
async def test_a_lease_that_is_none_is_taken(kind: str, redis: Redis) -> None:
    run = new_id("resp_")
    lease = f"resp:{{{run}}}:lease"
    await (redis.set(lease, "x") if kind == "without an end" else redis.sadd(lease, "x"))
    leases = Leases(redis)
    assert not await leases.renew(run)
    assert await leases.take(run)
    assert await leases.renew(run)


@pytest.fixture
def process(make_gateway: Callable[..., GatewayFixture], tmp_path: Path) -> Iterator[Any]:
    installed = make_gateway()
    process = GatewayProcess(tmp_path / "process", installed.settings, clock_ahead_seconds=HOUR)
    process.start()
    yield installed, process
    process.kill()


def test_a_gateway_an_hour_ahead_that_is_killed_is_taken_over(process: Any, llm_url: str, llm: FakeLlm) -> None:
    installed, ahead = process
    client = sdk(ahead.url, installed)
    with installed.serve() as url:
        llm.hold_after = 3
        created = client.responses.create(model="fake", input="hi", background=True)
        wait_until(lambda: client.responses.retrieve(created.id).output_text == "Hello, this")
        ahead.kill()
        llm.release()
        survivor = sdk(url, installed)
        wait_until(lambda: survivor.responses.retrieve(created.id).status == "completed", what="the takeover")
        final = survivor.responses.retrieve(created.id)
    assert final.output_text == "".join(llm.answer)
    assert final.completed_at >= final.created_at
