"""The parts of a prompt: they sum to what the pod counts, and what is not there is nothing."""

from collections.abc import Sequence
from typing import Any

from cloister_gateway.grounding import Passage
from cloister_gateway.prompt import Layout, Parts, PromptBuilder, counted
from hypothesis import given
from hypothesis import strategies as st

Message = dict[str, Any]


def size(messages: Sequence[Message]) -> int:
    return sum(4 + len(str(message["content"]).split()) for message in messages)


async def count(messages: Sequence[Message]) -> int:
    return size(messages)


def said(role: str, words: int) -> Message:
    return {"role": role, "content": " ".join(["word"] * words)}


def passage(words: int) -> Passage:
    return Passage("file-1", "a.md", 0.9, "word " * words, None, None, None)


@given(st.tuples(*[st.integers(0, 10**6)] * 5), st.integers(0, 10**7), st.integers(0, 100))
def test_the_parts_sum_to_the_tokens_and_have_nothing_of_what_is_not_there(
    weights: tuple[int, int, int, int, int], tokens: int, beside: int
) -> None:
    parts = Layout(Parts(*weights)).split(tokens, beside=beside)
    assert sum(parts) == tokens + beside
    assert min(parts) >= 0
    if any(weights[:3]) or weights[4]:
        assert [part for part, weight in zip(parts, weights, strict=True) if not weight and part] in ([], [beside])


async def test_a_prompts_parts_are_about_what_each_of_them_has() -> None:
    history = [said("user", 30), said("assistant", 200), said("user", 10), said("assistant", 50)]
    prompt = await PromptBuilder(count, budget=10_000).build(
        instructions="word " * 60, history=history, passages=[passage(100)], new=[said("user", 40)], drop=True
    )
    whole = size(prompt.messages)
    shared, exact = prompt.layout.split(whole), await counted(prompt.messages, prompt.layout, whole, count)
    assert sum(shared) == sum(exact) == whole
    assert exact.history == size(history)
    assert exact.new == size([said("user", 40)])
    for mine, its in zip(shared, exact, strict=True):
        assert abs(mine - its) <= 0.15 * whole


async def test_of_a_first_turn_without_instructions_all_is_new() -> None:
    prompt = await PromptBuilder(count, budget=10_000).build(
        instructions=None, history=[], passages=[], new=[said("user", 40)], drop=True
    )
    assert prompt.layout.split(44) == Parts(new=44)
    assert await counted(prompt.messages, prompt.layout, 51, count) == Parts(new=51)
