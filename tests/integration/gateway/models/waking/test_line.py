"""The line of a model that wakes, where a gateway goes away that holds requests in it, or stands still."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore
from cloister_gateway.models.waking import store
from cloister_gateway.models.waking.store import WakingStore
from redis.asyncio import Redis

from tests.integration.gateway.conftest import joined_text, sdk
from tests.integration.gateway.models.waking.conftest import MakeResting
from tests.support.gateway import secret_file
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import until, wait_until
from tests.support.workload import FakeWorkload

CHAT: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = "Hello, this is the fake."


def held(redis: RedisServer) -> int:
    """How many stand in the line, over all gateways."""
    with redis.client() as client:
        return sum(client.zcard(key) for key in client.keys("waking:{*}:held"))


def test_the_places_of_a_gateway_that_is_killed_are_free_within_its_lease_and_its_run_goes_on_elsewhere(
    resting: MakeResting, workload: FakeWorkload, redis_server: RedisServer, tmp_path: Path
) -> None:
    """It waits for the 15 seconds of the lease."""
    workload.reach = "loading"
    gateway = resting(queue=3, deadline_seconds=600)
    (tmp_path / "killed").mkdir()
    killed = GatewayProcess(tmp_path / "killed", gateway.settings)
    seen: list[Any] = []
    with gateway.serve() as url, ThreadPoolExecutor(2) as threads:

        def watch() -> None:
            for event in sdk(url, gateway).responses.create(model="fake", input="hi", stream=True):
                seen.append(event)  # noqa: PERF402 - it is looked at meanwhile

        def positions() -> list[int]:
            return [event.queue["position"] for event in seen if event.type == "response.queued" and event.queue]

        killed.start()
        try:
            run = sdk(killed.url, gateway).responses.create(model="fake", input="hi", background=True)
            lost = threads.submit(sdk(killed.url, gateway).chat.completions.create, **CHAT)
            wait_until(lambda: held(redis_server) == 2, what="one gateway holds two")
            watching = threads.submit(watch)
            wait_until(lambda: positions()[-1:] == [3], what="the third waits at the other")
            client = sdk(url, gateway)
            with pytest.raises(openai.RateLimitError):
                client.chat.completions.create(**CHAT)
        finally:
            killed.kill()
        with pytest.raises(openai.APIConnectionError):
            lost.result(60)
        wait_until(lambda: positions()[-1] == 1, seconds=90, what="the third is the first")
        late = client.responses.create(model="fake", input="hi", background=True)
        workload.reach = "ready"
        watching.result(60)
        assert joined_text(seen) == ANSWER
        for asked in (run.id, late.id):
            wait_until(lambda asked=asked: client.responses.retrieve(asked).status == "completed")  # type: ignore[misc]
        wait_until(lambda: held(redis_server) == 0, what="all have left the line")


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis(port=redis_server.port, password=redis_server.password) as client:
        yield client


async def test_who_stands_still_for_longer_than_its_lease_learns_that_its_places_were_given_up_and_takes_them_again(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = Keyring("gateway", FileRootKey(secret_file(tmp_path, "root")), MemoryKeyStore())
    still, other = (WakingStore(redis, keyring, holder=name) for name in ("still", "other"))
    monkeypatch.setattr(store, "LEASE_SECONDS", 0.05)
    await still.hold("m", "a", most=1, seconds=600)
    monkeypatch.setattr(store, "LEASE_SECONDS", 600)

    async def is_given_up() -> bool:
        return (await other.place("m", most=1)).position == 1

    await until(is_given_up, what="its place is free")
    assert (await other.hold("m", "b", most=1, seconds=500)).position == 1
    late = await still.line("m")
    assert (late.lost, late.held) == (True, ["other/b"])
    await still.hold("m", "a", most=None, seconds=600)
    again = await still.line("m")
    assert (again.lost, again.held) == (False, ["other/b", "a"])
    await still.leave("m", "a", woken=True)
    assert (await other.line("m")).held == ["b"]


def test_a_gateway_that_stood_still_has_its_requests_in_the_line_again_and_loses_none(
    resting: MakeResting, workload: FakeWorkload, redis_server: RedisServer
) -> None:
    workload.reach = "loading"
    gateway = resting(queue=5)
    with gateway.serve() as url, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(sdk(url, gateway).chat.completions.create, **CHAT)
        wait_until(lambda: held(redis_server) == 1)

        def give_up() -> None:
            """As another gateway does that finds its lease to be over."""
            with redis_server.client() as client:
                for key in client.keys("waking:{*}:*"):
                    if key.endswith((b":held", b":holders")):
                        client.delete(key)

        give_up()
        wait_until(lambda: held(redis_server) == 1, what="it stands there again")
        workload.reach = "ready"
        done = asked.result(60)
        assert done.choices[0].message.content == ANSWER
        wait_until(lambda: held(redis_server) == 0, what="it has left the line")
