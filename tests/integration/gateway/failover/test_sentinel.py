"""A Redis that sentinels watch: its master dies under load, and nothing that was acknowledged is lost."""

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from cloister_common.ids import new_id
from cloister_common.settings import SettingsError
from cloister_common.testing.llm import FakeLlm
from cloister_common.vault import Keyring
from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage import KeyedObject, record_key
from cloister_gateway.storage.client import command_client
from cloister_gateway.storage.durability import check_durability, wait_for_redis
from cloister_gateway.storage.errors import UnconfirmedError
from cloister_gateway.streams.events import EventStream

from tests.integration.gateway.conftest import joined_text, sdk
from tests.integration.gateway.failover.conftest import CONFIRMED, callers
from tests.support.gateway import GatewayFixture, first_keys, gateway_settings
from tests.support.redis_sentinels import WatchedRedis
from tests.support.stopwatch import stopwatch
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedRedis]:
    """About two seconds to start: sentinels look for each other once a second."""
    redis = WatchedRedis(tmp_path_factory.mktemp("watched"))
    try:
        yield redis.start()
    finally:
        redis.stop()


@pytest.fixture
def installed(watched: WatchedRedis, tmp_path: Path, llm_url: str) -> GatewayFixture:
    with watched.master.client() as client:
        client.flushall()
    return first_keys(
        gateway_settings(
            tmp_path / "secrets",
            watched,
            models={"fake": {"urls": [llm_url], "context_tokens": 2048}},
            redis={**watched.settings, **CONFIRMED},
        )
    )


@pytest.fixture
def clients(installed: GatewayFixture) -> Iterator[list[Any]]:
    """The SDK at two gateways."""
    with installed.serve() as one, installed.serve() as other:
        yield [sdk(one, installed), sdk(other, installed)]


def settings(watched: WatchedRedis, **changed: Any) -> RedisSettings:
    return RedisSettings.model_validate({**watched.settings, **changed})


async def test_a_write_that_too_few_replicas_confirm_is_not_acknowledged(watched: WatchedRedis) -> None:
    enough = command_client(settings(watched, **{**CONFIRMED, "replicas_to_wait": 2}))
    too_many = command_client(settings(watched, replicas_to_wait=3, wait_milliseconds=50))
    script = too_many.register_script("return redis.call('INCR', KEYS[1])")
    try:
        assert await enough.set("written", "by one")
        for transaction in (True, False):
            async with enough.pipeline(transaction=transaction) as pipeline:
                pipeline.set("written", "by many")
                pipeline.get("written")
                assert await pipeline.execute() == [True, b"by many"]
            async with too_many.pipeline(transaction=transaction) as pipeline:
                pipeline.set("written", "by none")
                pipeline.get("written")
                with pytest.raises(UnconfirmedError):
                    await pipeline.execute()
        with pytest.raises(UnconfirmedError):
            await script(keys=["counted"])
        # A read waits for nobody, and gets its own answer.
        assert await too_many.get("counted") == b"1"
        assert await too_many.get("written") == b"by none"
    finally:
        await enough.aclose()
        await too_many.aclose()


async def test_sentinels_that_know_no_such_service_or_refuse_the_password_are_named(
    watched: WatchedRedis, tmp_path: Path
) -> None:
    sentinel = dict(watched.settings["sentinel"])  # type: ignore[call-overload]  # a mapping
    wrong = tmp_path / "wrong"
    wrong.write_text("not-their-password")
    for changed, said in (
        ({"service": "another"}, "No master found"),
        ({"password_file": str(wrong)}, "Authentication"),
    ):
        made = settings(watched, sentinel={**sentinel, **changed}, start_seconds=0)
        client = command_client(made)
        with pytest.raises(SettingsError, match=f"of the sentinels at redis://.*{said}.*redis.sentinel"):
            await wait_for_redis(client, made)
        await client.aclose()


async def test_the_master_that_sentinels_name_is_checked_for_durability(watched: WatchedRedis) -> None:
    made = settings(watched)
    client = command_client(made)
    await check_durability(client, made)
    await client.config_set("appendfsync", "everysec")
    try:
        with pytest.raises(SettingsError, match="may lose what was acknowledged: appendfsync is everysec"):
            await check_durability(client, made)
    finally:
        await client.config_set("appendfsync", "always")
        await client.aclose()


def test_turns_are_refused_while_too_few_replicas_are_there(watched: WatchedRedis, installed: GatewayFixture) -> None:
    # (It waits for replicas so much less than for Redis itself that a machine that stands still is not taken for that.)
    redis = installed.settings.redis.model_copy(update={"wait_milliseconds": 500})
    hasty = dataclasses.replace(installed, settings=installed.settings.model_copy(update={"redis": redis}))
    with hasty.serve() as url:
        client = sdk(url, installed)
        done = wait_until(lambda: _accepted(client), what="a turn is taken")
        replicas = watched.replicas
        for replica in replicas:
            os.kill(replica.pid, signal.SIGSTOP)
        try:
            with pytest.raises(openai.InternalServerError, match="too few replicas") as refused:
                client.responses.create(model="fake", input="hi")
            assert refused.value.status_code == 503
            assert client.responses.retrieve(done).status == "completed"
        finally:
            for replica in replicas:
                os.kill(replica.pid, signal.SIGCONT)
        wait_until(lambda: _accepted(client), what="turns are taken again")


async def test_events_that_too_few_replicas_have_are_shown_to_nobody(watched: WatchedRedis, keyring: Keyring) -> None:
    trusting = command_client(settings(watched))
    waiting = command_client(settings(watched, replicas_to_wait=3, wait_milliseconds=50))
    keyed = KeyedObject("resp", new_id("resp_"), await keyring.create("proj_a", "resp", "any"))
    try:
        await trusting.hset(record_key("resp", keyed.id), "tenant", "proj_a")
        with pytest.raises(UnconfirmedError):
            await EventStream(waiting).append(keyed, 0, [b"{}"], final=False)
        assert [group.events for group in await EventStream(trusting).read(keyed)] == [[b"{}"]]
        with pytest.raises(UnconfirmedError):
            await EventStream(waiting).read(keyed)
    finally:
        await trusting.aclose()
        await waiting.aclose()


def _accepted(client: Any) -> str | None:
    """The id of a turn that was taken and answered, if one was."""
    try:
        done = client.responses.create(model="fake", input="hi")
    except openai.InternalServerError:
        return None
    return str(done.id) if done.status == "completed" else None


def test_a_master_killed_under_load_costs_nothing_that_was_acknowledged(
    watched: WatchedRedis, clients: list[Any], llm: FakeLlm
) -> None:
    conversation = clients[0].conversations.create()
    llm.delay_seconds = 0.05
    with callers(clients) as made:
        stream = iter(clients[0].responses.create(model="fake", input="hi", conversation=conversation.id, stream=True))
        seen = [next(stream)]
        while not joined_text(seen):
            seen.append(next(stream))
        master = watched.kill_master()
        with stopwatch() as resuming:
            seen += list(stream)
    watched.revive(master)
    assert resuming.seconds < 10
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert (seen[-1].type, joined_text(seen)) == ("response.completed", "Hello, this is the fake.")
    for caller in made:
        caller.check(clients[1])
