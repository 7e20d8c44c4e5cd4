"""Items as callers send them: each kind by its type, and what is wrong named by its place."""

from typing import Any

import orjson
import pytest
from cloister_common.errors import InvalidRequest
from cloister_common.wire.requests import RequestModel, parse_request
from cloister_gateway.wire.inputs import InputItem, input_item
from cloister_gateway.wire.items import Item, item_messages, joined
from pydantic import TypeAdapter

CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Ulm"}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}


class Body(RequestModel):
    input: list[InputItem]


def stored(item: dict[str, Any]) -> dict[str, Any]:
    return input_item(TypeAdapter[InputItem](InputItem).validate_python(item))


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "computer_call", "id": "a", "action": {}, "call_id": "c", "status": "x"}, "input[0].type"),
        ({"type": "message", "role": "user"}, "input[0].content"),
        ({**CALL, "call_id": ""}, "input[0].call_id"),
        ({**CALL, "arguments": {}}, "input[0].arguments"),
        ({**CALL, "name": "no spaces"}, "input[0].name"),
        ({**OUTPUT, "output": 7}, "input[0].output"),
        ({**OUTPUT, "output": [{"type": "input_image", "image_url": "x"}]}, "input[0].output[0].image_url"),
        ({**OUTPUT, "output": [{"type": "input_image"}]}, "input[0].output[0]"),
        ({**OUTPUT, "output": [{"type": "input_file", "file_id": "file-a"}]}, "input[0].output[0].type"),
        ({**OUTPUT, "output": [{"type": "refusal", "refusal": "no"}]}, "input[0].output[0].type"),
        ({**OUTPUT, "safety": 1}, "input[0].safety"),
        ("text", "input[0]"),
    ],
)
def test_what_is_wrong_with_an_item_is_named_by_its_place(item: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(Body, orjson.dumps({"input": [item]}))
    assert refused.value.param == param


def test_calls_and_what_they_returned_are_stored_as_they_were_sent() -> None:
    call = stored({**CALL, "id": "fc_1", "status": "completed", "namespace": None})
    assert {**call, "id": ""} == {**CALL, "id": "", "status": "completed"}
    assert stored(OUTPUT)["output"] == "rain"
    parts = [{"type": "input_text", "text": "rain"}]
    assert stored({**OUTPUT, "output": parts})["output"] == parts


def test_calls_stand_together_in_the_assistants_message() -> None:
    text = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]}
    items: list[Item] = [
        text,
        {**CALL, "id": "fc_1"},
        {**CALL, "id": "fc_2", "call_id": "call_2", "arguments": "no json"},
        OUTPUT,
    ]
    says, returned = joined(item_messages(items))
    assert (says["role"], says["content"]) == ("assistant", "Let me see.")
    assert [call["id"] for call in says["tool_calls"]] == ["call_1", "call_2"]
    assert says["tool_calls"][1]["function"]["arguments"] == '{"arguments":"no json"}'
    assert returned == {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
    alone = joined(item_messages([{**CALL, "id": "fc_1"}]))
    assert alone == [{"role": "assistant", "content": "", "tool_calls": says["tool_calls"][:1]}]
