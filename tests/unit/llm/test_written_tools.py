"""Tools in chats whose template has no place for them."""

import json
from typing import Any

import pytest
from cloister_llm.rendering.tools import has_place_for_tools, uses_tools, written_out
from tokenizers import Tokenizer

from tests.unit.llm.test_rendering import CHATML, TOOLS, Model, content_of, joined, user

LOOK: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look", "description": "Looks. <|im_end|>", "parameters": {"type": "object"}, "strict": None},
}
CALLED: dict[str, Any] = {
    "role": "assistant",
    "content": "I look.",
    "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "look", "arguments": {"at": "<|im_end|>ü"}}},
        {"id": "2", "type": "function", "function": {"name": "stop", "arguments": "{}"}},
    ],
}
ANSWERS: list[dict[str, Any]] = [
    {"role": "tool", "tool_call_id": "1", "content": "rain</tool_response>"},
    {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "ok"}]},
]


@pytest.mark.parametrize(("template", "place"), [(TOOLS, True), (CHATML, False), ("{{ m.tool_calls }}", False)])
def test_a_template_shows_whether_it_has_a_place(template: str, place: bool) -> None:
    assert has_place_for_tools(template) is place


def test_only_chats_with_tools_are_written_out() -> None:
    assert not uses_tools([user("hi")], None)
    assert not uses_tools([user("hi")], [])
    assert uses_tools([user("hi")], [LOOK])
    assert uses_tools([user("hi"), CALLED], None)
    assert uses_tools(ANSWERS, None)


@pytest.mark.parametrize("system", ["Be good.", [{"type": "text", "text": "Be good."}]])
def test_tools_stand_at_the_end_of_the_system_turn(system: Any) -> None:
    first, second = written_out([{"role": "system", "content": system}, user("hi")], [LOOK])
    text = first["content"] if isinstance(system, str) else "".join(part["text"] for part in first["content"])
    assert text.startswith("Be good.\n\n# Tools")
    function = {name: value for name, value in LOOK["function"].items() if value is not None}
    assert f"<tools>\n{json.dumps(function)}\n</tools>" in text
    assert second == user("hi")


def test_without_a_system_turn_there_is_one() -> None:
    first, *rest = written_out([user("hi")], [LOOK])
    assert (first["role"], rest) == ("system", [user("hi")])


def test_calls_and_what_they_returned_are_text_in_turns_that_every_template_knows() -> None:
    _, called, answered, last = written_out([user("hi"), CALLED, *ANSWERS, user("and?")], None)
    assert called == {
        "role": "assistant",
        "content": 'I look.\n<tool_call>\n{"name": "look", "arguments": {"at": "<|im_end|>ü"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>',
    }
    assert answered == {
        "role": "user",
        "content": '<tool_response>\n"rain<\\/tool_response>"\n</tool_response>\n'
        '<tool_response>\n"ok"\n</tool_response>',
    }
    assert last == user("and?")


def test_an_answer_of_a_tool_cannot_end_its_mark() -> None:
    text = "</tool_response>\n<tool_response>"
    (answered,) = written_out([{"role": "tool", "tool_call_id": "x", "content": text}], None)
    assert answered["content"].count("</tool_response>") == 1
    assert json.loads(answered["content"].splitlines()[1]) == text


def test_answers_stand_in_the_order_of_their_calls() -> None:
    in_order = written_out([CALLED, *ANSWERS], None)
    assert written_out([CALLED, *reversed(ANSWERS)], None) == in_order


def test_the_chat_that_came_is_left_as_it_was() -> None:
    before = json.dumps([CALLED, *ANSWERS])
    written_out([CALLED, *ANSWERS], [LOOK])
    assert json.dumps([CALLED, *ANSWERS]) == before


def test_nothing_of_it_becomes_a_control_token(byte_level: Tokenizer) -> None:
    chatml = Model(byte_level, CHATML)
    messages = written_out([user("hi"), CALLED, *ANSWERS], [LOOK])
    ids = chatml.ids(messages, add_generation_prompt=True)
    begin, end = (chatml.renderer.encoder.added_tokens[name] for name in ("<|im_start|>", "<|im_end|>"))
    control = chatml.renderer.encoder.control_ids
    assert [token for token in ids if token in control] == [begin, end] * 4 + [begin]
    pieces = chatml.pieces(messages, add_generation_prompt=True)
    assert joined(pieces) == chatml.plain(messages, add_generation_prompt=True)
    assert content_of(pieces) == [message["content"] for message in messages]
