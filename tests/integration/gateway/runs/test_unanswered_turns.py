"""A turn that ends without an answer stays visible as such, and is not sent again; one with a part of it counts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cloister_common.testing.llm import FakeLlm

from tests.integration.gateway.conftest import Installation, sdk
from tests.support.gateway import GatewayFixture
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until

TURN = {"model": "fake", "input": "lost"}


def said(llm: FakeLlm) -> list[str]:
    """What the model was given last, as ``role: text``."""
    return [f"{message['role']}: {message['content']}" for message in llm.chats()[-1]["messages"]]


def shown(client: Any, conversation: str) -> list[tuple[str, str]]:
    """The texts and statuses of a conversation's messages."""
    items = client.conversations.items.list(conversation, order="asc")
    return [(item.content[0].text, item.status) for item in items if item.type == "message"]


def fail(client: Any, llm: FakeLlm, **where: Any) -> Any:
    """A turn that fails before its first token."""
    llm.refuse_status = 400
    failed = client.responses.create(**TURN, **where)
    llm.refuse_status = None
    assert (failed.status, failed.output) == ("failed", [])
    return failed


def cancel(client: Any, llm: FakeLlm, **where: Any) -> Any:
    """A turn that is cancelled before its first token."""
    llm.hold_after = 0
    created = client.responses.create(**TURN, **where, background=True)
    wait_until(lambda: llm.running == 1)
    cancelled = client.responses.cancel(created.id)
    llm.release()
    llm.hold_after = None
    assert cancelled.status == "cancelled"
    return cancelled


ENDS = pytest.mark.parametrize("end", [fail, cancel])


@ENDS
def test_what_got_no_answer_in_a_conversation_is_shown_and_not_sent(
    end: Callable[..., Any], client: Any, other: Any, llm: FakeLlm
) -> None:
    llm.answer = ["yes"]
    conversation = client.conversations.create()
    client.responses.create(model="fake", input="one", conversation=conversation.id)
    lost = [end(client, llm, conversation=conversation.id) for _ in range(2)]
    other.responses.create(model="fake", input="two", conversation=conversation.id)
    assert said(llm) == ["user: one", "assistant: yes", "user: two"]
    assert shown(other, conversation.id) == [
        ("one", "completed"),
        ("yes", "completed"),
        ("lost", "incomplete"),
        ("lost", "incomplete"),
        ("two", "completed"),
        ("yes", "completed"),
    ]
    items = list(client.conversations.items.list(conversation.id, order="asc"))
    assert {item.type for item in items} == {"message"}
    one = client.conversations.items.retrieve(items[2].id, conversation_id=conversation.id)
    assert one.status == "incomplete"
    # The response itself has what was asked, as it was asked.
    assert [item.id for item in client.responses.input_items.list(lost[0].id)] == [items[2].id]
    # A chain that leaves the conversation at the turn without an answer does not send it either.
    client.responses.create(model="fake", input="fork", previous_response_id=lost[1].id)
    assert said(llm) == ["user: one", "assistant: yes", "user: fork"]
    client.conversations.items.delete(items[2].id, conversation_id=conversation.id)
    assert len(shown(client, conversation.id)) == 5


@ENDS
def test_what_got_no_answer_in_a_chain_is_not_sent(end: Callable[..., Any], client: Any, llm: FakeLlm) -> None:
    llm.answer = ["yes"]
    first = client.responses.create(model="fake", input="one")
    lost = end(client, llm, previous_response_id=first.id)
    again = end(client, llm, previous_response_id=lost.id)
    last = client.responses.create(model="fake", input="two", previous_response_id=again.id)
    assert said(llm) == ["user: one", "assistant: yes", "user: two"]
    client.responses.create(model="fake", input="three", previous_response_id=last.id)
    assert said(llm) == ["user: one", "assistant: yes", "user: two", "assistant: yes", "user: three"]


@pytest.mark.parametrize("within", ["conversation", "chain"])
def test_a_part_of_an_answer_is_sent_with_its_question(within: str, client: Any, llm: FakeLlm) -> None:
    conversation = client.conversations.create()
    where = {"conversation": conversation.id} if within == "conversation" else {}
    llm.hold_after = 2
    created = client.responses.create(model="fake", input="one", background=True, **where)
    wait_until(lambda: client.responses.retrieve(created.id).output_text == "Hello,")
    assert client.responses.cancel(created.id).status == "cancelled"
    llm.release()
    llm.hold_after = None
    if within == "chain":
        where = {"previous_response_id": created.id}
    client.responses.create(model="fake", input="two", **where)
    assert said(llm) == ["user: one", "assistant: Hello,", "user: two"]
    if within == "conversation":
        assert shown(client, conversation.id)[:2] == [("one", "completed"), ("Hello,", "incomplete")]


def test_many_failures_leave_the_prompt_as_short_as_without_them(client: Any, llm: FakeLlm) -> None:
    llm.answer = ["yes"]
    conversation = client.conversations.create()
    for number in range(3):
        for _ in range(4):
            fail(client, llm, conversation=conversation.id)
        client.responses.create(model="fake", input=f"q{number}", conversation=conversation.id)
    assert said(llm) == ["user: q0", "assistant: yes", "user: q1", "assistant: yes", "user: q2"]
    statuses = [status for _, status in shown(client, conversation.id)]
    assert (statuses.count("incomplete"), statuses.count("completed")) == (12, 6)


def test_all_of_a_failed_turns_input_stays_unsent(client: Any, llm: FakeLlm) -> None:
    conversation = client.conversations.create(items=[{"role": "system", "content": "be kind"}])
    llm.refuse_status = 400
    asked = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "lost"}]
    client.responses.create(model="fake", input=asked, conversation=conversation.id)
    llm.refuse_status = None
    client.responses.create(model="fake", input="two", conversation=conversation.id)
    assert said(llm) == ["system: be kind", "user: two"]


def test_a_run_given_up_as_damaged_leaves_no_question_behind(
    client: Any, llm: FakeLlm, installation: Installation
) -> None:
    conversation = client.conversations.create()
    llm.hold_after = 0
    created = client.responses.create(**TURN, conversation=conversation.id, background=True)
    wait_until(lambda: llm.running == 1)
    with installation.redis.client() as redis:
        redis.hset(f"resp:{{{created.id}}}", "body", b"garbage")
        redis.delete(f"resp:{{{created.id}}}:lease")
        wait_until(lambda: redis.hget(f"resp:{{{created.id}}}", "done"), what="the end of the damaged run")
    llm.release()
    llm.hold_after = None
    client.responses.create(model="fake", input="two", conversation=conversation.id)
    assert said(llm) == ["user: two"]
    assert shown(client, conversation.id)[0] == ("lost", "incomplete")


@pytest.fixture
def killed(make_gateway: Callable[..., GatewayFixture], tmp_path: Path) -> Iterator[Any]:
    installed = make_gateway()
    process = GatewayProcess(tmp_path / "process", installed.settings)
    process.start()
    yield installed, process
    process.kill()


def test_a_failure_after_a_takeover_is_marked_all_the_same(killed: Any, llm: FakeLlm) -> None:
    installed, process = killed
    doomed = sdk(process.url, installed)
    conversation = doomed.conversations.create()
    llm.hold_after = 0
    created = doomed.responses.create(**TURN, conversation=conversation.id, background=True)
    wait_until(lambda: llm.running == 1)
    with installed.serve() as url:
        llm.refuse_status = 400
        process.kill()
        llm.release()
        survivor = sdk(url, installed)
        wait_until(lambda: survivor.responses.retrieve(created.id).status == "failed", what="the end elsewhere")
        llm.refuse_status = llm.hold_after = None
        survivor.responses.create(model="fake", input="two", conversation=conversation.id)
        assert said(llm) == ["user: two"]
        assert shown(survivor, conversation.id)[0] == ("lost", "incomplete")
