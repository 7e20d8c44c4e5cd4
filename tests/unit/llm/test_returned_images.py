"""Images that functions return: at a place of the template's own, or behind the tools' turns."""

from typing import Any

import pytest
from cloister_llm.rendering.returned import apart, returns_images, shown_behind
from cloister_llm.rendering.tools import written_out
from jinja2 import TemplateError
from tokenizers import Tokenizer

from tests.unit.llm.test_rendering import CHATML, Model, user

SEEN: dict[str, Any] = {"type": "image"}
CALLED: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": str(at), "type": "function", "function": {"name": "look", "arguments": {}}} for at in (1, 2)],
}


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def tool(call: str, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call, "content": content}


RETURNED = [tool("2", [said("a"), SEEN, said("b")]), tool("1", "[image 1]"), tool("1", [SEEN])]


def test_only_images_of_tools_are_moved() -> None:
    assert returns_images([user("hi"), CALLED, *RETURNED])
    assert not returns_images([user("hi"), {"role": "user", "content": [SEEN]}, tool("1", [said("a")]), tool("1", "b")])


def test_images_are_told_of_at_their_place_and_shown_behind_in_the_order_in_which_they_came() -> None:
    texts, shown = apart(RETURNED)
    assert [one["content"] for one in texts] == ["a\n[image 1]\nb", "[image 1]", "[image 2]"]
    assert shown == [said("[image 1]: "), SEEN, said("[image 2]: "), SEEN]
    chat = [user("hi"), CALLED, *RETURNED, {"role": "assistant", "content": "ok"}, *RETURNED[:1]]
    found = shown_behind(chat)
    assert [one["role"] for one in found] == ["user", "assistant", *["tool"] * 3, "user", "assistant", "tool", "user"]
    assert found[5]["content"] == shown
    assert found[-1]["content"] == [said("[image 1]: "), SEEN]
    assert shown_behind([user("hi"), CALLED, tool("1", "a")]) == [user("hi"), CALLED, tool("1", "a")]


def test_without_a_place_for_tools_they_are_in_the_turn_that_has_what_was_returned() -> None:
    *_, answered = written_out([user("hi"), CALLED, *RETURNED], None)
    first, *shown = answered["content"]
    assert answered["role"] == "user"
    assert first["text"].index('"[image 2]"') < first["text"].index('"a\\n[image 1]\\nb"')
    assert shown == apart(RETURNED)[1]


_TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
_SEES = "{% for p in m.content %}{{ '<think>' if p.type == 'image' else p.text }}{% endfor %}"
EVERYWHERE = (
    _TURNS + "{% if m.content is string %}{{ m.content }}{% else %}" + _SEES + "{% endif %}<|im_end|>\n{% endfor %}"
)
OF_USERS = (
    _TURNS
    + "{% if m.role == 'user' and m.content is not string %}"
    + _SEES
    + "{% else %}{{ m.content }}{% endif %}{% endfor %}"
)
NO_TOOLS = "{% for m in messages if m.role != 'tool' or raise_exception('no tools') %}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "place"), [(EVERYWHERE, True), (OF_USERS, False), (NO_TOOLS, False), (CHATML, False)]
)
def test_a_template_shows_whether_it_has_a_place(byte_level: Tokenizer, template: str, place: bool) -> None:
    of = Model(byte_level, template)

    def apply_template(messages: list[dict[str, Any]], tools: Any) -> str:
        try:
            return of.plain(messages, tools)
        except (TemplateError, TypeError) as error:
            raise ValueError(str(error)) from error  # as vLLM does

    assert of.renderer.shows_returned(apply_template) is place
