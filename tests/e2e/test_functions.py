"""A loop of a function that the bundled model must call, through the whole stack."""

import json
from typing import Any

from tests.e2e.conftest import CHAT_MODEL

LAMP = {
    "type": "function",
    "name": "lamp",
    "description": "Switches the lamp.",
    "parameters": {
        "type": "object",
        "properties": {"on": {"type": "boolean"}},
        "required": ["on"],
        "additionalProperties": False,
    },
    "strict": True,
}


def test_a_function_is_called_and_what_it_returned_is_answered(client: Any) -> None:
    conversation = client.conversations.create()
    ask: dict[str, Any] = {"model": CHAT_MODEL, "conversation": conversation.id, "tools": [LAMP]}
    named = {"type": "function", "name": "lamp"}
    with client.responses.stream(**ask, input="Light, please.", tool_choice=named, max_output_tokens=60) as stream:
        kinds = [event.type for event in stream]
        called = stream.get_final_response()
    assert "response.function_call_arguments.done" in kinds
    (call,) = called.output
    assert isinstance(json.loads(call.arguments)["on"], bool)
    assert called.usage.output_tokens > 0
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "The lamp is on."}
    answered = client.responses.create(**ask, input=[output], tool_choice="none", max_output_tokens=12)
    assert answered.status in {"completed", "incomplete"}
    assert [item.type for item in answered.output] == ["message"]
    items = list(client.conversations.items.list(conversation.id, order="asc"))
    assert [item.type for item in items] == ["message", "function_call", "function_call_output", "message"]
