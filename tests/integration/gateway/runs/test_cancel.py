"""What ends a run and what does not: cancelling, leaving, nobody watching, deleting."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from cloister_common.testing.llm import FakeLlm

from tests.integration.gateway.conftest import joined_text, sdk
from tests.support.gateway import GatewayFixture
from tests.support.waiting import wait_until


def read_until(stream: Any, text: str) -> list[Any]:
    """The events up to the one that completes ``text``."""
    events: list[Any] = []
    while joined_text(events) != text:
        events.append(next(stream))
    return events


def check_cancelled(events: list[Any], text: str) -> None:
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    final = events[-1]
    assert (final.type, final.response.status, final.response.output_text) == ("response.incomplete", "cancelled", text)
    assert [item.status for item in final.response.output] == ["incomplete"] * len(final.response.output)


@pytest.mark.parametrize("where", ["here", "at the other gateway"])
def test_cancelling_midway_keeps_the_text_so_far_and_aborts_the_model(
    where: str, client: Any, other: Any, llm: FakeLlm
) -> None:
    llm.hold_after = 3
    stream = iter(client.responses.create(model="fake", input="hi", stream=True))
    events = read_until(stream, "Hello, this")
    canceller = client if where == "here" else other
    cancelled = canceller.responses.cancel(events[0].response.id)
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "Hello, this")
    events += list(stream)
    check_cancelled(events, "Hello, this")
    assert canceller.responses.retrieve(cancelled.id).to_dict() == cancelled.to_dict()
    wait_until(lambda: llm.running == 0, what="the abort in the pod")
    assert llm.aborted == 1


def test_cancelling_before_the_first_token(client: Any, llm: FakeLlm) -> None:
    llm.hold_after = 0
    created = client.responses.create(model="fake", input="hi", background=True)
    wait_until(lambda: llm.running == 1)
    cancelled = client.responses.cancel(created.id)
    assert (cancelled.status, cancelled.output) == ("cancelled", [])
    events = list(client.responses.retrieve(created.id, stream=True))
    assert [event.type for event in events] == [
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.incomplete",
    ]
    wait_until(lambda: llm.running == 0)


def test_cancelling_before_the_first_token_frees_the_conversation(client: Any, llm: FakeLlm) -> None:
    conversation = client.conversations.create()
    llm.hold_after = 0
    created = client.responses.create(model="fake", input="hi", background=True, conversation=conversation.id)
    wait_until(lambda: llm.running == 1)
    assert client.responses.cancel(created.id).status == "cancelled"
    llm.release()
    assert client.responses.create(model="fake", input="again", conversation=conversation.id).status == "completed"
    roles = [item.role for item in client.conversations.items.list(conversation.id, order="asc")]
    assert roles == ["user", "user", "assistant"]


def test_cancelling_after_the_end_or_twice_changes_nothing(client: Any, llm: FakeLlm) -> None:
    done = client.responses.create(model="fake", input="hi")
    assert client.responses.cancel(done.id).to_dict() == done.to_dict()
    llm.hold_after = 1
    created = client.responses.create(model="fake", input="hi", background=True)
    wait_until(lambda: client.responses.retrieve(created.id).output_text == "Hello")
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(client.responses.cancel(created.id))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [answer.to_dict() for answer in answers] == [answers[0].to_dict()] * 6
    assert answers[0].status == "cancelled"
    assert client.responses.cancel(created.id).to_dict() == answers[0].to_dict()


def test_leaving_is_not_cancelling(client: Any, other: Any, llm: FakeLlm) -> None:
    llm.hold_after = 2
    stream = client.responses.create(model="fake", input="hi", stream=True)
    events = read_until(iter(stream), "Hello,")
    stream.close()
    llm.release()
    rest = list(other.responses.retrieve(events[0].response.id, stream=True, starting_after=events[-1].sequence_number))
    assert joined_text([*events, *rest]) == "".join(llm.answer)
    assert rest[-1].response.status == "completed"


@pytest.fixture
def lonely(make_gateway: Callable[..., GatewayFixture]) -> GatewayFixture:
    """An installation that cancels what nobody has watched for a second."""
    return make_gateway(responses={"unwatched_seconds": 1})


@pytest.fixture
def lonely_urls(lonely: GatewayFixture) -> Iterator[tuple[str, str]]:
    with lonely.serve() as first, lonely.serve() as second:
        yield first, second


def test_a_run_that_nobody_watches_is_cancelled_and_its_generation_ends(
    lonely: GatewayFixture, lonely_urls: tuple[str, str], llm: FakeLlm
) -> None:
    client = sdk(lonely_urls[0], lonely)
    llm.hold_after = 2
    stream = client.responses.create(model="fake", input="hi", stream=True)
    events = read_until(iter(stream), "Hello,")
    stream.close()
    wait_until(lambda: llm.running == 0, what="the abort in the pod")
    wait_until(lambda: client.responses.retrieve(events[0].response.id).status == "cancelled")


def test_a_client_that_hangs_up_on_a_plain_request_does_not_watch(
    lonely: GatewayFixture, lonely_urls: tuple[str, str], llm: FakeLlm
) -> None:
    llm.hold_after = 2
    host, port = lonely_urls[0].removeprefix("http://").split(":")
    body = b'{"model": "fake", "input": "hi"}'
    head = (
        f"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {lonely.project_key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        wait_until(lambda: llm.running == 1)
    wait_until(lambda: llm.running == 0, what="the abort in the pod")
    assert llm.aborted == 1


def test_a_reader_at_another_gateway_keeps_a_silent_run_alive(
    lonely: GatewayFixture, lonely_urls: tuple[str, str], llm: FakeLlm
) -> None:
    here, there = (sdk(url, lonely) for url in lonely_urls)
    llm.hold_after = 2
    stream = here.responses.create(model="fake", input="hi", stream=True)
    events = read_until(iter(stream), "Hello,")
    with there.responses.retrieve(events[0].response.id, stream=True) as watching:
        seen = read_until(iter(watching), "Hello,")
        stream.close()
        # Longer than an unwatched run lives; the model is silent all the time.
        threading.Event().wait(5)
        assert llm.running == 1
        llm.release()
        assert [*seen, *watching][-1].response.status == "completed"


def test_background_runs_go_on_unwatched(lonely: GatewayFixture, lonely_urls: tuple[str, str], llm: FakeLlm) -> None:
    client = sdk(lonely_urls[0], lonely)
    llm.hold_after = 2
    created = client.responses.create(model="fake", input="hi", background=True)
    wait_until(lambda: llm.running == 1)
    threading.Event().wait(4)
    assert llm.running == 1
    llm.release()
    wait_until(lambda: client.responses.retrieve(created.id).status == "completed")


def test_deleting_a_running_response_ends_it_for_good(client: Any, other: Any, llm: FakeLlm) -> None:
    llm.hold_after = 2
    stream = iter(client.responses.create(model="fake", input="hi", stream=True))
    events = read_until(stream, "Hello,")
    response_id = events[0].response.id
    other.responses.delete(response_id)
    list(stream)
    for reader in (client, other):
        with pytest.raises(openai.NotFoundError):
            reader.responses.retrieve(response_id)
    wait_until(lambda: llm.running == 0)


def test_deleting_a_conversation_ends_the_response_that_is_being_made_in_it(
    client: Any, other: Any, llm: FakeLlm
) -> None:
    conversation = client.conversations.create()
    llm.hold_after = 2
    stream = iter(client.responses.create(model="fake", input="hi", stream=True, conversation=conversation.id))
    events = read_until(stream, "Hello,")
    other.conversations.delete(conversation.id)
    wait_until(lambda: llm.running == 0, what="the abort in the pod")
    rest = list(stream)
    assert rest[-1].type == "error"
    assert rest[-1].code == "not_found"
    for reader in (client, other):
        with pytest.raises(openai.NotFoundError):
            reader.responses.retrieve(events[0].response.id)
