"""What the server put out is taken back as SDKs dump it, and says to the model what it said before."""

from typing import Any

import pytest
from cloister_common.app import validation_error
from cloister_common.errors import InvalidRequest
from cloister_gateway.responses.schemas import CreateResponse
from cloister_gateway.wire.inputs import input_item
from cloister_gateway.wire.items import item_messages, joined
from openai.types.conversations import Message
from openai.types.responses import (
    ParsedResponseFunctionToolCall,
    ParsedResponseOutputMessage,
    ResponseFileSearchToolCall,
    ResponseOutputMessage,
    ResponseReasoningItem,
)
from pydantic import BaseModel, ValidationError

CITATION = {
    "type": "file_citation",
    "file_id": "file-1",
    "filename": "a.md",
    "index": 2,
    "page": 3,
    "section": "b",
    "quote": "c",
}
LOGPROB = {"token": "Yes", "bytes": [89], "logprob": -0.5, "top_logprobs": []}
TEXT = {"type": "output_text", "text": "Yes.", "annotations": [CITATION], "logprobs": [LOGPROB]}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [TEXT],
    "phase": None,
}
SEARCH = {
    "id": "fs_1",
    "type": "file_search_call",
    "status": "completed",
    "queries": ["leave"],
    "results": [{"file_id": "file-1", "filename": "a.md", "score": 0.5, "text": "30 days", "attributes": {"a": 1}}],
    "coverage": "found",
}
THOUGHT = {
    "id": "rs_1",
    "type": "reasoning",
    "status": "completed",
    "summary": [{"type": "summary_text", "text": "In short."}],
    "content": [{"type": "reasoning_text", "text": "I see."}],
}
CALL = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}


def stored(*items: dict[str, Any]) -> list[dict[str, Any]]:
    """What is stored of the items, less the ids."""
    request = CreateResponse.model_validate({"model": "m", "input": list(items)})
    found = [input_item(item) for item in request.input]
    return [{name: value for name, value in item.items() if name != "id"} for item in found]


def refused(*items: dict[str, Any]) -> InvalidRequest:
    with pytest.raises(ValidationError) as refusal:
        stored(*items)
    return validation_error(refusal.value.errors())


def less_id(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "id"}


DUMPED: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (ResponseOutputMessage, MESSAGE),
    (ParsedResponseOutputMessage[Any], {**MESSAGE, "content": [{**TEXT, "parsed": {"a": 1}}]}),
    (ResponseFileSearchToolCall, SEARCH),
    (ResponseReasoningItem, THOUGHT),
    (ParsedResponseFunctionToolCall, {**CALL, "status": "completed", "parsed_arguments": {"a": 1}}),
]


@pytest.mark.parametrize(("cls", "item"), DUMPED)
@pytest.mark.parametrize("options", [{}, {"exclude_none": True}, {"exclude_unset": True}, {"mode": "json"}])
def test_an_item_comes_back_as_the_sdk_dumps_it(
    cls: type[BaseModel], item: dict[str, Any], options: dict[str, Any]
) -> None:
    (found,) = stored(cls.model_validate(item).model_dump(**options))
    assert found["type"] == item["type"]
    assert found == stored(item)[0]


@pytest.mark.parametrize("item", [MESSAGE, SEARCH, THOUGHT])
def test_an_item_is_stored_as_it_was_put_out(item: dict[str, Any]) -> None:
    assert stored(item) == [less_id(item)]


@pytest.mark.parametrize("item", [MESSAGE, SEARCH, THOUGHT, CALL])
def test_a_null_that_this_version_does_not_know_says_nothing(item: dict[str, Any]) -> None:
    assert stored({**item, "novelty": None}) == stored(item)
    assert refused({**item, "novelty": 1}).param == "input[0].novelty"


def test_items_of_a_conversation_come_back_as_the_sdk_dumps_them() -> None:
    part = {"type": "input_text", "text": "Hi"}
    item = {"id": "msg_1", "type": "message", "role": "user", "status": "completed", "content": [part]}
    assert stored(Message.model_validate(item).model_dump()) == [less_id(item)]


@pytest.mark.parametrize("phase", ["commentary", "final_answer", None])
def test_the_phase_of_a_message_stays_with_it(phase: str) -> None:
    assert stored({**MESSAGE, "phase": phase})[0]["phase"] == phase


def test_a_refusal_was_said() -> None:
    part = {"type": "refusal", "refusal": "No."}
    (item,) = stored({**MESSAGE, "content": [TEXT, part]})
    assert item["content"][1] == part
    assert item_messages([item]) == [{"role": "assistant", "content": "Yes.No."}]
    assert refused({"role": "user", "content": [part]}).param == "input[0]"


def test_what_was_cut_off_stays_cut_off() -> None:
    assert stored({**MESSAGE, "status": "incomplete"})[0]["status"] == "incomplete"
    assert stored({**THOUGHT, "status": "incomplete"})[0]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({**MESSAGE, "content": [{**TEXT, "annotations": [{"type": "mark"}]}]},
         "input[0].content[0].annotations[0].type"),
        ({**MESSAGE, "content": [{**TEXT, "annotations": [{**CITATION, "index": "2"}]}]},
         "input[0].content[0].annotations[0].index"),
        ({**SEARCH, "results": [{"content": "x"}]}, "input[0].results[0].content"),
        ({**THOUGHT, "content": [{"type": "text", "text": "x"}]}, "input[0].content[0].type"),
        ({**THOUGHT, "thought": "x"}, "input[0].thought"),
        ({"type": "item_reference"}, "input[0].id"),
        ({"type": "web_search_call", "id": "ws_1"}, "input[0].type"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_an_item_is_named_by_its_place(item: dict[str, Any], param: str) -> None:
    assert refused(item).param == param


@pytest.mark.parametrize(
    "reference", [{"type": "item_reference", "id": "msg_1"}, {"type": None, "id": "msg_1"}, {"id": "msg_1"}]
)
def test_a_reference_needs_no_type(reference: dict[str, Any]) -> None:
    request = CreateResponse.model_validate({"model": "m", "input": [reference]})
    assert (request.input[0].type or "item_reference", request.input[0].id) == ("item_reference", "msg_1")


ASKED = {"role": "user", "content": "hi"}
CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RETURNED = {"role": "tool", "tool_call_id": "call_1", "content": "1"}


def prompt(*items: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for item in items:
        if "role" in item:
            item = {"type": "message", **item, "content": [{"type": "text", "text": item["content"]}]}
        found.append({"id": "x_1", **item})
    return joined(item_messages(found))


def test_a_thought_goes_with_the_calls_that_came_of_it() -> None:
    output = {"type": "function_call_output", "call_id": "call_1", "output": "1"}
    assert prompt(ASKED, THOUGHT, CALL, output) == [ASKED, {**CALLED, "reasoning": "I see."}, RETURNED]


def test_a_thought_between_text_and_call_begins_a_message_of_its_own() -> None:
    said = {"role": "assistant", "content": "Wait."}
    assert prompt(ASKED, said, THOUGHT, CALL) == [ASKED, said, {**CALLED, "reasoning": "I see."}]


def test_thoughts_of_turns_before_are_left_out() -> None:
    said = {"role": "assistant", "content": "Yes."}
    assert prompt(ASKED, THOUGHT, said, ASKED) == [ASKED, said, ASKED]
    assert prompt(ASKED, THOUGHT, said) == [ASKED, {**said, "reasoning": "I see."}]
