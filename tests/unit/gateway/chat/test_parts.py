"""The parts of a chat completion's prompt, which sum to what its pod counted."""

from typing import Any

import pytest
from cloister_gateway.chat.parts import split_of

SYSTEM = {"role": "system", "content": "s" * 84}
ASKED = {"role": "user", "content": "u" * 84}
ANSWERED = {"role": "assistant", "content": "a" * 84}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


@pytest.mark.parametrize(
    ("messages", "parts"),
    [
        ([ASKED], (0, 0, 0, 0, 100)),
        ([SYSTEM, ASKED], (50, 0, 0, 0, 50)),
        ([SYSTEM, ASKED, ANSWERED, ASKED], (25, 50, 0, 0, 25)),
        ([ASKED, {**SYSTEM, "role": "developer"}, ANSWERED, ASKED, ASKED], (20, 40, 0, 0, 40)),
        ([ASKED, ANSWERED], (0, 100, 0, 0, 0)),
        (
            [{"role": "user", "content": [{"type": "text", "text": "u" * 84}]}, ANSWERED, ASKED, SYSTEM],
            (25, 50, 0, 0, 25),
        ),
    ],
)
def test_what_stands_behind_the_last_answer_is_new(messages: list[Any], parts: tuple[int, ...]) -> None:
    assert split_of({"messages": messages}, 100) == parts


def test_functions_and_calls_have_their_part() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "x"}]
    parts = split_of({"messages": messages, "tools": TOOLS}, 777)
    assert sum(parts) == 777
    assert parts.tools > 0 < parts.history
    assert parts.new > 0 == parts.system


def test_an_image_weighs_as_a_thousand_tokens() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    asked = {"role": "user", "content": [image, {"type": "text", "text": "u" * 84}]}
    parts = split_of({"messages": [{**SYSTEM, "content": "s" * 4096}, asked]}, 1000)
    assert 400 < parts.system < 600
