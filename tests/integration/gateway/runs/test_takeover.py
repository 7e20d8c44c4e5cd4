"""Gateways and Redis die in the middle of an answer: it is finished elsewhere, and told once."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.retriever_answers import found
from cloister_common.testing.serving import served
from cloister_gateway.streams.events import EventStream
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from tests.integration.gateway.conftest import joined_text, sdk
from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture, secret_file
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

CUT = (httpx.TransportError, openai.APIError)
"""What a reader meets when its gateway dies."""


@pytest.fixture
def survivor(installed: GatewayFixture, process: GatewayProcess) -> Iterator[Any]:
    """The SDK at a gateway that lives on."""
    with installed.serve() as url:
        yield sdk(url, installed)


@pytest.fixture
def lasting(installed: GatewayFixture) -> Iterator[Any]:
    """The SDK at a gateway that nobody kills."""
    with installed.serve() as url:
        yield sdk(url, installed)


def read(stream: Any, text: str) -> list[Any]:
    """The events until ``text`` has been read."""
    events: list[Any] = []
    while joined_text(events) != text:
        events.append(next(stream))
    return events


def check_told_once(events: list[Any], conversation: Any, survivor: Any, answer: str) -> None:
    """``events`` are one gapless story; the conversation has each item once, in order; nothing is left running."""
    assert [event.sequence_number for event in events] == list(range(len(events)))
    final = events[-1].response
    assert (final.status, final.output_text, joined_text(events)) == ("completed", answer, answer)
    assert survivor.responses.retrieve(final.id).to_dict() == final.to_dict()
    items = list(survivor.conversations.items.list(conversation.id, order="asc"))
    assert [item.role for item in items] == ["user", "assistant"] * (len(items) // 2)
    assert len({item.id for item in items}) == len(items)
    assert items[-1].to_dict() == final.output[0].to_dict()
    assert survivor.responses.create(model="fake", input="next", conversation=conversation.id).status == "completed"


def test_answer_of_a_killed_gateway_is_finished_by_another(
    installed: GatewayFixture, process: GatewayProcess, survivor: Any, llm: FakeLlm
) -> None:
    doomed = sdk(process.url, installed)
    conversation = doomed.conversations.create()
    assert doomed.responses.create(model="fake", input="first", conversation=conversation.id).status == "completed"
    llm.hold_after = 3
    stream = iter(doomed.responses.create(model="fake", input="hi", conversation=conversation.id, stream=True))
    seen = read(stream, "Hello, this")
    watching = iter(survivor.responses.retrieve(seen[0].response.id, stream=True))
    elsewhere = read(watching, "Hello, this")
    process.kill()
    with contextlib.suppress(*CUT):
        seen += list(stream)
    llm.release()
    # A reader at the other gateway just goes on; one that was cut off resumes from where it was.
    elsewhere += list(watching)
    seen += list(survivor.responses.retrieve(seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number))
    assert [event.to_dict() for event in seen] == [event.to_dict() for event in elsewhere]
    check_told_once(seen, conversation, survivor, "".join(llm.answer))
    assert llm.chats()[2]["messages"][-1] == {"role": "assistant", "content": "Hello, this"}


def test_turn_accepted_by_a_killed_gateway_is_answered_after_its_restart(
    installed: GatewayFixture, process: GatewayProcess, llm: FakeLlm
) -> None:
    client = sdk(process.url, installed)
    conversation = client.conversations.create()
    llm.hold_after = 0
    created = client.responses.create(model="fake", input="hi", conversation=conversation.id, background=True)
    wait_until(lambda: llm.running == 1)
    process.kill()
    llm.release()
    process.start()
    wait_until(lambda: client.responses.retrieve(created.id).status == "completed", what="the end after the restart")
    events = list(client.responses.retrieve(created.id, stream=True))
    check_told_once(events, conversation, client, "".join(llm.answer))


def test_terminated_gateway_hands_its_runs_over_at_once(
    installed: GatewayFixture, process: GatewayProcess, survivor: Any, llm: FakeLlm, redis_server: RedisServer
) -> None:
    client = sdk(process.url, installed)
    conversation = client.conversations.create()
    llm.hold_after = 3
    created = client.responses.create(model="fake", input="hi", conversation=conversation.id, background=True)
    wait_until(lambda: client.responses.retrieve(created.id).output_text == "Hello, this")
    with redis_server.client() as redis:
        lease = f"resp:{{{created.id}}}:lease"
        first_owner = redis.get(lease)
        # uvicorn ends in order, then dies of the signal as a shell expects.
        assert process.stop() in {0, -signal.SIGTERM}
        # Without the handover the lease would still be the dead holder's for seconds.
        assert redis.get(lease) != first_owner
        wait_until(lambda: redis.get(lease) not in {None, first_owner}, what="the takeover")
    llm.release()
    events = list(survivor.responses.retrieve(created.id, stream=True))
    check_told_once(events, conversation, survivor, "".join(llm.answer))


def test_takeover_that_meets_redis_away_is_tried_again_and_no_fault(
    installed: GatewayFixture, process: GatewayProcess, llm: FakeLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sdk(process.url, installed)
    conversation = client.conversations.create()
    llm.hold_after = 3
    created = client.responses.create(model="fake", input="hi", conversation=conversation.id, background=True)
    wait_until(lambda: client.responses.retrieve(created.id).output_text == "Hello, this")
    read_stream, failures = EventStream.read, [RedisConnectionError("away")]

    async def fail_once(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return await read_stream(*arguments)

    monkeypatch.setattr(EventStream, "read", fail_once)
    with capture_logs() as logs, installed.serve() as url:
        process.stop()
        wait_until(lambda: not failures, what="the first try")
        llm.release()
        survivor = sdk(url, installed)
        events = list(survivor.responses.retrieve(created.id, stream=True))
        check_told_once(events, conversation, survivor, "".join(llm.answer))
    assert not [entry for entry in logs if entry["event"] == "background_task_failed"]
    assert [entry["event"] for entry in logs if entry["event"] in {"run_interrupted", "run_adopted"}] == [
        "run_adopted",
        "run_interrupted",
        "run_adopted",
    ]


def test_runs_go_on_after_redis_was_killed_in_the_middle(lasting: Any, llm: FakeLlm, redis_server: RedisServer) -> None:
    conversation = lasting.conversations.create()
    llm.hold_after = 3
    stream = iter(lasting.responses.create(model="fake", input="hi", conversation=conversation.id, stream=True))
    seen = read(stream, "Hello, this")
    redis_server.kill()
    llm.release()
    # The generation goes on into a store that is not there.
    wait_until(lambda: llm.running == 0)
    redis_server.start()
    seen += list(stream)
    check_told_once(seen, conversation, lasting, "".join(llm.answer))


def test_while_redis_is_down_callers_are_told_and_nothing_is_accepted(
    lasting: Any, redis_server: RedisServer, llm: FakeLlm
) -> None:
    conversation = lasting.conversations.create()
    first = lasting.responses.create(model="fake", input="one", conversation=conversation.id)
    redis_server.kill()
    calls: list[Callable[[], object]] = [
        lambda: lasting.responses.create(model="fake", input="lost", conversation=conversation.id),
        lambda: lasting.responses.retrieve(first.id),
        lambda: lasting.conversations.retrieve(conversation.id),
    ]
    for call in calls:
        with pytest.raises(openai.InternalServerError) as down:
            call()
        assert down.value.status_code == 503
    redis_server.start()
    wait_until(lambda: _answers(lasting, first.id), what="the reconnection")
    items = list(lasting.conversations.items.list(conversation.id))
    assert len(items) == 2
    assert lasting.responses.create(model="fake", input="two", conversation=conversation.id).status == "completed"


def _answers(client: Any, response_id: str) -> bool:
    try:
        return bool(client.responses.retrieve(response_id).status == "completed")
    except openai.InternalServerError:
        return False


def test_a_redis_that_takes_no_more_writes_is_a_503_until_it_does(lasting: Any, redis_server: RedisServer) -> None:
    calls: list[Callable[[], Any]] = [
        lasting.conversations.create,
        lambda: lasting.responses.create(model="fake", input="hi"),
    ]
    with redis_server.client() as redis:
        redis.config_set("maxmemory", 1)
        try:
            for call in calls:
                with pytest.raises(openai.InternalServerError) as refused:
                    call()
                assert (refused.value.status_code, refused.value.code) == (503, "unavailable")
        finally:
            redis.config_set("maxmemory", 0)
    assert calls[0]().object == "conversation"
    assert calls[1]().status == "completed"


def test_a_run_that_nobody_can_read_or_finish_is_ended_and_keeps_nothing_locked(
    installed: GatewayFixture, lasting: Any, llm: FakeLlm, redis_server: RedisServer
) -> None:
    llm.hold_after = 0
    conversations = [lasting.conversations.create() for _ in range(4)]
    with installed.serve() as url, redis_server.client() as redis:
        doomed = sdk(url, installed)
        altered, cut, deadly, good = (
            doomed.responses.create(model="fake", input="hi", conversation=one.id, background=True)
            for one in conversations
        )
        wait_until(lambda: llm.running == 4)
        redis.hset(f"resp:{{{altered.id}}}", "request", b"garbage")
        events = f"resp:{{{cut.id}}}:events"
        (entry, fields), *_ = redis.xrange(events)
        redis.delete(events)
        redis.xadd(events, {**fields, b"d": b"garbage"}, entry)
        redis.hset(f"resp:{{{deadly.id}}}", "taken", 10)
    llm.release()
    with redis_server.client() as redis:
        for one in (altered, cut):
            wait_until(lambda: redis.hget(f"resp:{{{one.id}}}", "done"), what="the end of an altered run")  # noqa: B023
    wait_until(lambda: lasting.responses.retrieve(good.id).status == "completed", what="the end of the good run")
    wait_until(lambda: lasting.responses.retrieve(deadly.id).status == "failed", what="the end of the deadly run")
    for one in (altered, cut):
        with pytest.raises(openai.InternalServerError) as damaged:
            lasting.responses.retrieve(one.id)
        assert damaged.value.code == "stored_data_damaged"
    assert "given it up" in lasting.responses.retrieve(deadly.id).error.message
    for conversation in conversations:
        lasting.conversations.items.create(conversation.id, items=[{"role": "user", "content": "free"}])
        next_turn = lasting.responses.create(model="fake", input="next", conversation=conversation.id)
        assert next_turn.status == "completed"


def test_who_takes_a_run_over_sends_the_same_but_what_was_deleted_meanwhile(
    make_gateway: Callable[..., GatewayFixture], llm: FakeLlm, search: FakeRetriever, tmp_path: Path
) -> None:
    """What was found is kept for the takeover; the history is read again, and what is not there must not be used."""
    search.planted["vs_1"] = [found("The moon is made of rock.", file_id="file-moon", filename="moon.md")]
    tool = {"type": "file_search", "vector_store_ids": ["vs_1"]}
    with served(search) as retriever:
        token = str(secret_file(tmp_path, "token", INTERNAL_TOKEN))
        gateway = make_gateway(retriever={"url": retriever, "token_file": token})
        process = GatewayProcess(tmp_path / "process", gateway.settings)
        process.start()
        with gateway.serve() as url:
            client, doomed = sdk(url, gateway), sdk(process.url, gateway)
            texts = ["one", "a secret", "three"]
            conversation = doomed.conversations.create(items=[{"role": "user", "content": text} for text in texts]).id
            llm.hold_after = 3
            created = doomed.responses.create(
                model="fake", input="the moon?", conversation=conversation, background=True, tools=[tool]
            )
            wait_until(lambda: client.responses.retrieve(created.id).output_text == "Hello, this")
            items = client.conversations.items
            secret = next(one for one in items.list(conversation) if one.type == "message" and "secret" in str(one))
            items.delete(secret.id, conversation_id=conversation)
            process.stop()
            llm.release()
            wait_until(lambda: client.responses.retrieve(created.id).status == "completed", what="the takeover")
    first, second = (chat["messages"] for chat in llm.chats())
    without = [message for message in first if message["content"] != "a secret"]
    assert len(without) == len(first) - 1
    assert second == [*without, {"role": "assistant", "content": "Hello, this"}]
    assert len(search.searches) == 1


def test_a_thought_of_a_killed_gateway_is_told_once(
    installed: GatewayFixture, process: GatewayProcess, survivor: Any, llm: FakeLlm
) -> None:
    llm.reasoning, llm.hold_after = ["I ", "see ", "it."], 2
    doomed = sdk(process.url, installed)
    stream = iter(doomed.responses.create(model="fake", input="hi", stream=True))
    seen = [next(stream)]
    while _thought(seen) != "I see ":
        seen.append(next(stream))
    process.kill()
    with contextlib.suppress(*CUT):
        seen += list(stream)
    llm.release()
    after = seen[-1].sequence_number
    events = [*seen, *survivor.responses.retrieve(seen[0].response.id, stream=True, starting_after=after)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    thought, message = events[-1].response.output
    assert _thought(events) == thought.content[0].text == "I see it."
    assert joined_text(events) == message.content[0].text == "Hello, this is the fake."


def _thought(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.reasoning_text.delta")
