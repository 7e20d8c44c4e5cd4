"""A call and what it returned stay together, in history and in what a prompt leaves out."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from cloister_gateway.prompt import History, PromptBuilder, PromptTooLongError
from cloister_gateway.prompt.history import upper_bound
from hypothesis import given
from hypothesis import strategies as st

Message = dict[str, Any]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def call(call_id: str) -> Message:
    function = {"name": "weather", "arguments": "{}"}
    return {
        "role": "assistant",
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
        "by_model": True,
    }


def returned(call_id: str, text: str = "rain") -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


async def count(messages: Sequence[Message]) -> int:
    return sum(10 + len(message["content"].split()) for message in messages)


def test_a_history_knows_which_calls_have_returned_and_until_when() -> None:
    history = History.of([user("a"), call("one"), call("two"), returned("two")])
    assert history.open_calls == ["one"]
    later = history.with_added([returned("one")])
    assert (later.open_calls, history.open_calls) == ([], ["one"])
    assert history.call("one") is not None
    assert history.call("three") is None


def test_what_a_missing_call_returned_is_left_out_and_nothing_twice() -> None:
    history = History.of([user("a"), returned("gone"), call("one"), returned("one"), returned("one", "again")])
    assert history.messages == [user("a"), call("one"), returned("one")]


def test_no_turn_begins_between_a_call_and_what_it_returned() -> None:
    history = History.of([user("a"), call("one"), user("b"), returned("one"), user("c")])
    assert history.turns == 2
    assert history.from_place(history.first_of(1)) == [user("c")]


@pytest.mark.parametrize("budget", [40, 60, 200])
async def test_the_turn_whose_calls_return_stays_whole(budget: int) -> None:
    old = [message for _ in range(8) for message in (user("old"), {"role": "assistant", "content": "old"})]
    history = History.of([*old, user("Weather?"), call("one")])
    prompt = await PromptBuilder(count, budget=budget).build(
        instructions=None, history=history, passages=[], new=[returned("one")], drop=True
    )
    asked, made, came = prompt.messages[-3:]
    assert (asked, came) == (user("Weather?"), returned("one"))
    assert [one["id"] for one in made["tool_calls"]] == ["one"]
    assert "by_model" not in made
    assert prompt.dropped_messages == len(old) - len(prompt.messages[:-3])


async def test_a_turn_that_must_stay_and_does_not_fit_is_refused() -> None:
    with pytest.raises(PromptTooLongError):
        await PromptBuilder(count, budget=30).build(
            instructions=None,
            history=History.of([user("Weather?"), call("one")]),
            passages=[],
            new=[returned("one")],
            drop=True,
        )


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(arguments=st.dictionaries(st.text(), JSON, max_size=4), text=st.text())
def test_no_template_makes_more_of_a_call_than_its_bound(arguments: dict[str, Any], text: str) -> None:
    made = call("call_1")
    made["tool_calls"][0]["function"]["arguments"] = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    spaced = [
        json.dumps(arguments, ensure_ascii=ascii, indent=indent) for ascii in (True, False) for indent in (None, 4)
    ]
    tagged = "".join(
        f"<parameter={name}>\n{value if isinstance(value, str) else json.dumps(value)}\n</parameter>\n"
        for name, value in arguments.items()
    )
    rendered = [f'{{"name": "weather", "id": "call_1", "arguments": {one}}}' for one in (*spaced, tagged)]
    assert upper_bound([made]) >= max(len(one.encode()) for one in rendered)
    assert upper_bound([returned("call_1", text)]) >= len(json.dumps(text).encode())
