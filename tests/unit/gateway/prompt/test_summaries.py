"""A summary stands for what was said before it, in every prompt from there on, and for nothing else."""

from collections.abc import Sequence
from typing import Any

import pytest
from cloister_gateway.prompt import History, PromptBuilder
from hypothesis import given
from hypothesis import strategies as st

Message = dict[str, Any]
TEXT = "All of it, in short."


def size(messages: Sequence[Message]) -> int:
    return sum(4 + len(str(message["content"]).split()) for message in messages)


async def count(messages: Sequence[Message]) -> int:
    return size(messages)


def turn(number: int) -> list[Message]:
    return [{"role": "user", "content": f"question {number}"}, {"role": "assistant", "content": f"answer {number}"}]


def turns(*numbers: int) -> list[Message]:
    return [message for number in numbers for message in turn(number)]


def summary(turns: int, keeps: int, text: str = TEXT) -> Message:
    return {"role": "summary", "summary": text, "turns": turns, "keeps": keeps}


async def prompt_of(history: History | list[Message], new: list[Message], budget: int = 10_000, **more: Any) -> Any:
    return await PromptBuilder(count, budget=budget).build(
        instructions="Be brief.", history=history, passages=[], new=new, drop=True, **more
    )


def contents(messages: Sequence[Message]) -> list[str]:
    return [str(message["content"]) for message in messages]


@given(before=st.integers(0, 6), kept=st.integers(0, 6), after=st.integers(0, 4))
async def test_it_stands_for_the_turns_before_those_that_it_keeps(before: int, kept: int, after: int) -> None:
    old, newest = range(before), range(before, before + kept)
    later = range(before + kept, before + kept + after)
    history = [*turns(*old), *turns(*newest), summary(before, 2 * kept), *turns(*later)]
    prompt = await prompt_of(history, [{"role": "user", "content": "and now?"}])
    system, said, *rest = contents(prompt.messages)
    assert (system, said.endswith(TEXT)) == ("Be brief.", True)
    assert rest == [*contents(turns(*newest, *later)), "and now?"]
    assert (prompt.summed_up, prompt.dropped_messages) == (before, 0)
    assert sum(prompt.layout.split(500)) == 500
    whole = await prompt_of(history, [{"role": "user", "content": "and now?"}], history_tokens=20)
    assert whole.dropped_messages == 2 * (kept + after) - (len(whole.messages) - 3)
    assert contents(whole.messages)[1].endswith(TEXT), "what is dropped is what came after it"


async def test_the_newest_counts_and_the_operators_words_stay() -> None:
    operator = {"role": "system", "content": "Say please."}
    history = [operator, *turns(0, 1), summary(2, 0, "old"), *turns(2, 3), summary(3, 2), *turns(4)]
    prompt = await prompt_of(history, [{"role": "user", "content": "x"}])
    _, said, one, *rest = contents(prompt.messages)
    assert (said, one.endswith(TEXT)) == ("Say please.", True)
    assert rest == [*contents(turns(3, 4)), "x"]


async def test_where_functions_return_to_a_turn_that_was_summed_up_their_calls_are_there() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calls = [{"role": "assistant", "tool_calls": [call], "by_model": True}]
    history = [*turns(0, 1), {"role": "user", "content": "weather?"}, summary(2, 1), *calls]
    prompt = await prompt_of(history, [{"role": "tool", "tool_call_id": "c", "content": "rain"}])
    assert [message["role"] for message in prompt.messages] == ["system", "user", "user", "assistant", "tool"]
    assert contents(prompt.messages)[1].endswith(TEXT)


async def test_one_that_comes_with_the_new_messages_stands_for_the_history_and_for_them() -> None:
    new = [*turns(2), summary(3, 0), {"role": "user", "content": "go on"}]
    history = History.of(turns(0, 1))
    prompt = await prompt_of(history, new)
    assert contents(prompt.messages)[2:] == ["go on"]
    assert history.summary is None, "nobody else's history has it"


@pytest.mark.parametrize("end", [2, 4])
def test_who_reads_what_was_said_before_it_was_made_does_not_see_it(end: int) -> None:
    said = History.of([*turns(0, 1), summary(1, 2), *turns(2)]).said
    assert History(said, end).summary is None
    assert History(said, end).turns == end // 2
    assert History(said, len(said.messages)).turns == 2
    copied = History(said, 5).with_added([{"role": "user", "content": "another"}])
    assert copied.summary is not None
    assert copied.said is not said
