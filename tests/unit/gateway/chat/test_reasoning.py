"""Clients find the reasoning of a chat completion under the name that they know, and nothing else changes."""

from typing import Any

import orjson
import pytest
from cloister_gateway.chat.reasoning import with_both_names
from hypothesis import given
from hypothesis import strategies as st


def answer(message: dict[str, Any]) -> bytes:
    return orjson.dumps({"choices": [{"message": {"role": "assistant", **message}}]})


@given(st.text(min_size=1))
def test_reasoning_has_both_names_whatever_it_says(text: str) -> None:
    found = orjson.loads(with_both_names(answer({"content": text, "reasoning": text})))["choices"][0]["message"]
    assert found == {"role": "assistant", "content": text, "reasoning": text, "reasoning_content": text}


def test_each_event_of_a_block_has_its_own() -> None:
    events = [b"data: " + orjson.dumps({"choices": [{"delta": {"reasoning": text}}]}) for text in ('a"', "b\\")]
    found = with_both_names(b"\n\n".join(events)).split(b"\n\n")
    deltas = [orjson.loads(event.removeprefix(b"data: "))["choices"][0]["delta"] for event in found]
    assert deltas == [{"reasoning": 'a"', "reasoning_content": 'a"'}, {"reasoning": "b\\", "reasoning_content": "b\\"}]


@pytest.mark.parametrize("text", ['{"reasoning":"x"}', '"reasoning":"', "reasoning"])
def test_an_answer_that_only_speaks_of_reasoning_stays_as_it_is(text: str) -> None:
    raw = answer({"content": text, "reasoning": None})
    assert with_both_names(raw) == raw
