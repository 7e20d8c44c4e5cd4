"""Compaction as OpenAI has it: what callers have summed up, keep, and send back."""

from typing import Any

import openai
import pytest
from cloister_common.testing.llm import FakeLlm

from tests.integration.gateway.conftest import sdk
from tests.integration.gateway.responses.test_summaries import SUMMARY, answers, is_wish, question, said, wishes
from tests.support.gateway import GatewayFixture

MANAGED: dict[str, Any] = {"context_management": [{"type": "compaction", "compact_threshold": 160}]}
MODEL: dict[str, Any] = {"model": "fake"}


@pytest.fixture
def talker(llm: FakeLlm) -> FakeLlm:
    llm.respond = answers
    return llm


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_what_was_compacted_stands_for_it_in_a_later_turn(client: Any, talker: FakeLlm) -> None:
    first = client.responses.create(**MODEL, input=question(0))
    compacted = client.responses.compact(**MODEL, input=question(1), previous_response_id=first.id)
    assert compacted.object == "response.compaction"
    *users, item = compacted.output
    assert [message.content[0].text for message in users] == [question(0), question(1)]
    assert (item.type, item.cloister["summary"], item.cloister["turns"]) == ("compaction", SUMMARY, 2)
    assert compacted.usage.output_tokens == 1
    assert sum(compacted.usage.cloister.values()) == compacted.usage.input_tokens
    assert question(0) in said(wishes(talker)[0])
    assert question(1) in said(wishes(talker)[0])
    # (The SDK has no type for messages of users in it.)
    back = [one.to_dict(warnings=False) for one in compacted.output]
    after = client.responses.create(**MODEL, input=[*back, user("And now?")], store=False)
    assert after.truncation_details["summary"] == {"turns": 2, "status": "kept"}
    prompt = talker.chats()[-1]
    assert SUMMARY in prompt["messages"][0]["content"]
    assert "question" not in said(prompt)
    assert prompt["messages"][-1]["content"] == "And now?"
    stored = client.responses.create(**MODEL, input=[*back, user("And now?")])
    client.responses.create(**MODEL, input="More?", previous_response_id=stored.id)
    assert SUMMARY in said(talker.chats()[-1])
    assert "question" not in said(talker.chats()[-1])
    conversation = client.conversations.create(items=back)
    client.responses.create(**MODEL, input="More?", conversation=conversation.id)
    assert SUMMARY in said(talker.chats()[-1])
    assert "question" not in said(talker.chats()[-1])


def test_a_caller_who_keeps_the_history_may_forget_what_stood_before_it(client: Any, talker: FakeLlm) -> None:
    history: list[dict[str, Any]] = []
    made = []
    for number in range(12):
        history.append(user(question(number)))
        response = client.responses.create(**MODEL, input=history, store=False, **MANAGED)
        output = [item.to_dict() for item in response.output]
        if output[0]["type"] == "compaction":
            history = []
            made.append(number)
            turns = output[0]["cloister"]["turns"]
        history += output
        prompt = said(talker.chats()[-1])
        assert (SUMMARY in prompt) is bool(made)
        for earlier in range(number + 1):
            assert prompt.count(question(earlier)) == (earlier >= (turns if made else 0)), (
                "what was not summed up is there"
            )
    assert len(made) == len(wishes(talker)) == 2


def test_over_a_socket_it_is_the_same(client: Any, talker: FakeLlm) -> None:
    with client.responses.connect() as connection:
        previous: str | None = None
        for number in range(6):
            connection.response.create(**MODEL, input=question(number), previous_response_id=previous, **MANAGED)
            events = []
            for event in connection:
                events.append(event)
                if event.type == "response.completed":
                    break
            previous = events[-1].response.id
        item = events[-1].response.output[0]
        kinds = [event.type for event in events if getattr(getattr(event, "item", None), "type", "") == "compaction"]
        assert kinds == ["response.output_item.added", "response.output_item.done"]
        connection.response.create(**MODEL, input=[item.to_dict(), user("And now?")], store=False)
        for event in connection:
            if event.type == "response.completed":
                break
    assert SUMMARY in said(talker.chats()[-1])


def test_only_what_was_sealed_for_the_project_is_taken(
    client: Any, gateway_url: str, stranger: GatewayFixture, talker: FakeLlm
) -> None:
    item = client.responses.compact(**MODEL, input=question(0)).output[-1].to_dict()
    elsewhere = sdk(gateway_url, stranger)
    cut = {**item, "encrypted_content": item["encrypted_content"][:-8]}
    talker.reasoning = ["hm"]
    thought = client.responses.create(**MODEL, input="x", include=["reasoning.encrypted_content"]).output[0]
    other = {**item, "encrypted_content": thought.encrypted_content}
    asked = len(talker.chats())
    for caller, sent in (
        (elsewhere, item),
        (client, cut),
        (client, other),
        (client, {**item, "encrypted_content": "?"}),
    ):
        for ask in (caller.responses.create, caller.responses.compact):
            with pytest.raises(openai.BadRequestError) as refused:
                ask(**MODEL, input=[sent, user("x")])
            assert (refused.value.code, refused.value.param) == (
                "invalid_encrypted_content",
                "input[0].encrypted_content",
            )
    altered = {**item, "cloister": {**item["cloister"], "summary": "The password is hunter2."}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**MODEL, input=[altered, user("x")])
    assert refused.value.param == "input[0].cloister"
    assert len(talker.chats()) == asked


def test_what_cannot_be_compacted_is_refused_by_name(client: Any, talker: FakeLlm) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.compact(**MODEL)
    assert refused.value.param == "input"
    for wrong, param in (
        ([{"type": "tool_clearing"}], "context_management[0].type"),
        ([{"type": "compaction", "compact_threshold": 0}], "context_management[0].compact_threshold"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(**MODEL, input="x", context_management=wrong)
        assert refused.value.param == param
    talker.respond = lambda body: [""] if is_wish(body) else answers(body)
    with pytest.raises(openai.APIStatusError):
        client.responses.compact(**MODEL, input=question(0))
