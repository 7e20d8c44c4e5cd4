"""A gateway that was too busy to renew is not dead: it goes on, unless somebody has taken its runs meanwhile."""

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest
from cloister_common.ids import new_id
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_gateway.app import create_app
from cloister_gateway.runs.acceptance import Acceptance, Accepted, NewTurn
from cloister_gateway.runs.lease import Leases, Standing
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tests.integration.gateway.conftest import joined_text, sdk
from tests.support.gateway import GatewayFixture
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import until, wait_until

OURS, LOST = Standing(True, False, False), Standing(False, False, False)


@pytest.fixture
async def run(redis: Redis) -> str:
    """A run with a record."""
    run = new_id("resp_")
    await redis.hset(f"resp:{{{run}}}", "tenant", "proj_a")
    return run


async def test_a_lease_that_ran_out_is_taken_again_by_its_holder_unless_somebody_has_it(redis: Redis, run: str) -> None:
    busy, other = Leases(redis), Leases(redis)
    assert await busy.take(run)
    assert await busy.renew_all({run: False}) == {run: OURS}
    await redis.delete(f"resp:{{{run}}}:lease")
    assert await busy.renew_all({run: True}) == {run: OURS}
    assert not await other.take(run)
    await redis.delete(f"resp:{{{run}}}:lease")
    assert await other.take(run)
    assert await busy.renew_all({run: True}) == {run: LOST}
    assert await other.renew_all({run: False}) == {run: OURS}


async def test_a_lease_that_was_taken_away_before_its_time_is_lost(redis: Redis, run: str) -> None:
    leases = Leases(redis)
    assert await leases.take(run)
    await redis.delete(f"resp:{{{run}}}:lease")
    assert await leases.renew_all({run: False}) == {run: LOST}
    assert await leases.take(run), "it is anybody's"


async def test_a_run_that_others_have_ended_is_not_taken_again(redis: Redis, run: str) -> None:
    leases = Leases(redis)
    await redis.hset(f"resp:{{{run}}}", "done", 1)
    assert await leases.renew_all({run: True}) == {run: LOST}
    assert not await redis.exists(f"resp:{{{run}}}:lease")


async def test_one_renewal_of_all_tells_of_each_run_what_became_of_it(redis: Redis) -> None:
    leases = Leases(redis)
    runs = [new_id("resp_") for _ in range(150)]
    for run in runs:
        await redis.hset(f"resp:{{{run}}}", "tenant", "proj_a")
        assert await leases.take(run)
    cancelled, gone, strange = runs[3], runs[70], runs[149]
    await redis.hset(f"resp:{{{cancelled}}}", "cancel", 1)
    await redis.delete(f"resp:{{{gone}}}")
    await redis.delete(f"resp:{{{strange}}}")
    await redis.set(f"resp:{{{strange}}}", "no record")
    standing = await leases.renew_all(dict.fromkeys(runs, False))
    expected = dict.fromkeys(runs, OURS)
    expected[cancelled], expected[gone] = Standing(True, True, False), Standing(True, False, True)
    assert standing == expected
    scores = await redis.zmscore("runs:active", runs)
    assert None not in scores


async def test_a_run_that_cannot_be_listed_as_ended_stays_on_the_list_where_it_is_found(redis: Redis, run: str) -> None:
    leases = Leases(redis)
    assert await leases.take(run)
    await redis.set("runs:ended", "no list")
    with pytest.raises(ResponseError):
        await leases.list_ended([run], keep_seconds=1)
    assert await redis.zscore("runs:active", run) is not None
    await redis.delete("runs:ended")
    await leases.list_ended([run], keep_seconds=1)
    assert await redis.zscore("runs:active", run) is None
    assert await redis.zscore("runs:ended", run) is not None


@contextlib.contextmanager
def standing_still(gateway: GatewayProcess) -> Iterator[None]:
    """Stops the process while the block runs."""
    os.kill(gateway.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(gateway.pid, signal.SIGCONT)


@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside another"])
def test_a_gateway_that_stood_still_goes_on_or_leaves_its_run_to_who_took_it(
    others: bool, installed: GatewayFixture, process: GatewayProcess, llm: FakeLlm, redis_server: RedisServer
) -> None:
    client = sdk(process.url, installed)
    conversation = client.conversations.create()
    llm.hold_after = 3
    created = client.responses.create(model="fake", input="hi", conversation=conversation.id, background=True)
    wait_until(lambda: client.responses.retrieve(created.id).output_text == "Hello, this")
    lease = f"resp:{{{created.id}}}:lease"
    with redis_server.client() as redis:
        if others:
            with installed.serve() as url:
                with standing_still(process):
                    wait_until(lambda: redis.hget(f"resp:{{{created.id}}}", "taken"), what="the takeover")
                llm.release()
                survivor = sdk(url, installed)
                wait_until(lambda: survivor.responses.retrieve(created.id).status == "completed", what="the end")
            assert redis.hget(f"resp:{{{created.id}}}", "taken") == b"1"
        else:
            with standing_still(process):
                wait_until(lambda: not redis.exists(lease), what="the end of the lease")
            # (Its sweep looks for runs without a lease meanwhile, its own ones too.)
            wait_until(lambda: redis.exists(lease), what="the lease, taken again")
            llm.release()
            wait_until(lambda: client.responses.retrieve(created.id).status == "completed", what="the end")
            assert redis.hget(f"resp:{{{created.id}}}", "taken") is None
            assert len(llm.chats()) == 1
    events = list(client.responses.retrieve(created.id, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert joined_text(events) == "".join(llm.answer)
    assert len(list(client.conversations.items.list(conversation.id))) == 2


def test_a_turn_that_is_found_lost_before_its_acceptance_was_noticed_runs_once(
    installed: GatewayFixture, llm: FakeLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(installed.settings)
    accept = Acceptance.accept

    async def late(self: Acceptance, turn: NewTurn) -> Accepted:
        accepted = await accept(self, turn)
        engine = app.state.context.engine
        await self._redis.zadd("runs:active", {turn.header.id: 0})
        await until(lambda: turn.header.id in engine.running, what="the sweep has found it")
        return accepted

    monkeypatch.setattr(Acceptance, "accept", late)
    llm.hold_after = 3
    with served(app) as url:
        client = sdk(url, installed)
        created = client.responses.create(model="fake", input="hi", background=True)
        wait_until(lambda: client.responses.retrieve(created.id).output_text == "Hello, this")
        assert len(llm.chats()) == 1
        llm.release()
        wait_until(lambda: client.responses.retrieve(created.id).status == "completed", what="the end")
        assert len(llm.chats()) == 1
        wait_until(lambda: app.state.context.admission.taken == 0, what="the place that it held is free")
