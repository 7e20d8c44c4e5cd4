"""What an assistant said comes back as SDKs dump it: what was said goes to the pod, what is only about it does not."""

from typing import Any

import pytest
from cloister_common.app import validation_error
from cloister_common.errors import InvalidRequest
from cloister_gateway.chat.schemas import ChatRequest
from openai.types.chat import ChatCompletionMessage, ParsedChatCompletionMessage
from pydantic import ValidationError

USER = {"role": "user", "content": "Hello"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def sent(message: dict[str, Any]) -> dict[str, Any]:
    """The message as the pod is given it."""
    request = ChatRequest.model_validate({"model": "fake", "messages": [USER, message, USER]})
    request.check()
    found: dict[str, Any] = request.upstream_body()["messages"][1]
    return found


def refused(message: dict[str, Any]) -> str | None:
    """The field that the refusal names."""
    try:
        sent(message)
    except ValidationError as error:
        return validation_error(error.errors()).param
    except InvalidRequest as error:
        return error.param
    raise AssertionError("the message was accepted")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_reaches_the_pod_under_its_one_name_there(name: str) -> None:
    assert sent({"role": "assistant", "content": "Hi", name: "I see."}) == {
        "role": "assistant",
        "content": "Hi",
        "reasoning": "I see.",
    }


def test_both_names_of_reasoning_are_taken_where_they_say_the_same() -> None:
    message = {"role": "assistant", "content": "Hi", "reasoning": "I see.", "reasoning_content": "I see."}
    assert sent(message)["reasoning"] == "I see."
    assert refused({**message, "reasoning_content": "I saw."}) == "messages[1].reasoning_content"


def test_a_message_that_is_all_thought_needs_no_content() -> None:
    assert sent({"role": "assistant", "content": None, "reasoning": "I see."}) == {
        "role": "assistant",
        "reasoning": "I see.",
    }


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_a_name_reaches_the_pod_with_every_role(role: str) -> None:
    assert sent({"role": role, "content": "Hi", "name": "Ada"})["name"] == "Ada"


def test_what_was_refused_was_said() -> None:
    assert sent({"role": "assistant", "content": None, "refusal": "No."})["content"] == "No."
    part = {"type": "refusal", "refusal": "No."}
    text = {"type": "text", "text": "Hm."}
    expected = [text, {"type": "text", "text": "No."}]
    assert sent({"role": "assistant", "content": [text, part]})["content"] == expected
    assert sent({"role": "assistant", "content": "Hm.", "refusal": "No."})["content"] == expected


def test_only_assistants_refuse_think_and_cite() -> None:
    assert refused({"role": "user", "content": "a", "refusal": "No."}) == "messages[1].refusal"
    assert refused({"role": "user", "content": "a", "reasoning": "I see."}) == "messages[1].reasoning"
    assert (
        refused({"role": "tool", "tool_call_id": "c", "content": "a", "annotations": []}) == "messages[1].annotations"
    )
    part = {"type": "refusal", "refusal": "No."}
    assert refused({"role": "user", "content": [part]}) == "messages[1].content[0].type"


@pytest.mark.parametrize("exclude", [True, False])
def test_messages_of_the_sdk_are_taken_as_they_are_dumped(exclude: bool) -> None:
    message = ChatCompletionMessage.model_validate(
        {
            "role": "assistant",
            "content": "Hi",
            "annotations": [
                {"type": "url_citation", "url_citation": {"start_index": 0, "end_index": 1, "title": "t", "url": "u"}}
            ],
            "tool_calls": [CALL],
        }
    )
    assert sent(message.model_dump(exclude_none=exclude)) == {
        "role": "assistant",
        "content": "Hi",
        "tool_calls": [CALL],
    }


def test_what_the_sdk_has_read_out_of_an_answer_ends_here() -> None:
    call = {**CALL, "function": {**CALL["function"], "parsed_arguments": {"a": 1}}}  # type: ignore[dict-item]
    body = {"role": "assistant", "content": '{"a":1}', "parsed": {"a": 1}, "tool_calls": [call]}
    message = ParsedChatCompletionMessage[Any].model_validate(body)
    assert sent(message.model_dump()) == {"role": "assistant", "content": '{"a":1}', "tool_calls": [CALL]}


def test_a_message_of_litellm_is_taken_as_it_is_dumped() -> None:
    fields = {"provider_specific_fields": {"refusal": None}, "thinking_blocks": None, "images": None}
    call = {**CALL, "provider_specific_fields": {"a": 1}}
    assert sent({"role": "assistant", "content": "Hi", **fields, "tool_calls": [call]}) == {
        "role": "assistant",
        "content": "Hi",
        "tool_calls": [CALL],
    }
    assert refused({"role": "assistant", "content": "Hi", "thinking_blocks": []}) == "messages[1].thinking_blocks"


def test_nulls_of_parts_say_nothing() -> None:
    part = {"type": "text", "text": "a", "annotations": None}
    assert sent({"role": "user", "content": [part]})["content"] == [{"type": "text", "text": "a"}]


def test_calls_put_together_from_a_stream_keep_their_number_to_themselves() -> None:
    assert sent({"role": "assistant", "content": None, "tool_calls": [{"index": 0, **CALL}]})["tool_calls"] == [CALL]


@pytest.mark.parametrize(("effort", "on"), [("none", False), ("high", True)])
def test_effort_goes_to_the_pod(effort: str, on: bool) -> None:
    request = ChatRequest.model_validate({"model": "fake", "messages": [USER], "reasoning_effort": effort})
    body = request.upstream_body()
    assert body["reasoning_effort"] == effort
    assert body["chat_template_kwargs"] == {"enable_thinking": on, "thinking": on}
