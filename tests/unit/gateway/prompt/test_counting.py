"""The tokenizer is asked seldom, and the prompt is the same as if it had been asked for everything."""

from collections.abc import Sequence
from typing import Any

import pytest
from cloister_gateway.grounding import Passage
from cloister_gateway.prompt import History, PromptBuilder, PromptTooLongError, Said
from hypothesis import given
from hypothesis import strategies as st

Message = dict[str, Any]
WORDS = st.integers(1, 30).map(lambda n: " ".join(["word"] * n))
ROLES = st.sampled_from(["user", "user", "user", "assistant", "system"])
MESSAGE = st.builds(lambda role, text: {"role": role, "content": text}, ROLES, WORDS)
PASSAGE = st.builds(lambda text: Passage("file-1", "a.txt", 0.9, text, None, None, None), WORDS)


class Tokenizer:
    """Four tokens for a message's frame, and one for each word; it counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, messages: Sequence[Message]) -> int:
        self.asked += 1
        return self.size(messages)

    @staticmethod
    def size(messages: Sequence[Message]) -> int:
        return sum(4 + len(message["content"].split()) for message in messages)


class Talk:
    """A conversation of which each prompt is built from what is known of those before."""

    def __init__(self, budget: int) -> None:
        self.said = Said()
        self.budget = budget
        self.tokenizer = Tokenizer()

    async def turn(self, question: str, answer: str, *, told: bool = True) -> int:
        """One turn; how often the tokenizer was asked, and that it was enough."""
        before = self.tokenizer.asked
        new = [{"role": "user", "content": question}]
        history = History(self.said, len(self.said.messages))
        prompt = await PromptBuilder(self.tokenizer, budget=self.budget, model="m").build(
            instructions="be kind", history=history, passages=[], new=new, drop=True
        )
        assert Tokenizer.size(prompt.messages) <= self.budget
        if told:
            prompt.note_tokens(Tokenizer.size(prompt.messages))
        self.said.extend([*new, {"role": "assistant", "content": answer}])
        return self.tokenizer.asked - before

    def fill(self, turns: int, words: int) -> None:
        text = "word " * words
        for _ in range(turns):
            self.said.extend([{"role": "user", "content": text}, {"role": "assistant", "content": text}])


@given(
    steps=st.lists(
        st.tuples(
            st.lists(MESSAGE, max_size=3),  # what was added to the conversation meanwhile
            st.lists(MESSAGE, min_size=1, max_size=2),  # what is new
            st.lists(PASSAGE, max_size=2),
            st.integers(20, 400),  # the budget
            st.sampled_from(["", "be kind", "be brief and clear"]),
            st.booleans(),  # whether the new messages come into the history
            st.booleans(),  # whether the model says how many tokens it found
            st.booleans(),  # whether anything may be dropped
            st.sampled_from(["one", "other"]),  # the model
        ),
        max_size=10,
    )
)
async def test_what_is_known_of_earlier_prompts_changes_none(steps: list[Any]) -> None:
    said = Said()
    for added, new, passages, budget, instructions, stays, told, drop, model in steps:
        said.extend(added)
        history = History(said, len(said.messages))
        asked = {"instructions": instructions, "passages": passages, "new": new, "drop": drop, "boundary": "b"}
        right: Any
        try:
            right = await PromptBuilder(Tokenizer(), budget=budget).build(history=history.messages, **asked)
        except PromptTooLongError as error:
            right = error
        build = PromptBuilder(Tokenizer(), budget=budget, model=model).build(history=history, **asked)
        if isinstance(right, PromptTooLongError):
            with pytest.raises(PromptTooLongError) as refused:
                await build
            assert refused.value.tokens == right.tokens
        else:
            prompt = await build
            assert prompt[:3] == right[:3]
            if told:
                prompt.note_tokens(Tokenizer.size(prompt.messages))
        if stays:
            said.extend(new)


async def test_a_talk_that_fits_is_counted_by_what_the_model_says() -> None:
    talk = Talk(budget=20_000)
    talk.fill(500, words=15)
    assert await talk.turn("how are you?", "well") <= 2, "more bytes than the budget: it has to be asked once"
    assert [await talk.turn(f"and now {number}?", "well") for number in range(50)] == [0] * 50


async def test_a_long_talk_is_cut_with_few_questions() -> None:
    talk = Talk(budget=5_000)
    talk.fill(500, words=40)
    assert await talk.turn("how are you?", "word " * 40) <= 5
    asked = [await talk.turn("word " * 40, "word " * 40, told=number % 2 == 0) for number in range(50)]
    assert max(asked) <= 3
    assert sum(asked) <= 2 * len(asked)


async def test_while_a_prompt_only_grows_the_tokenizer_is_not_asked() -> None:
    talk = Talk(budget=5_000)
    talk.fill(500, words=40)
    asked = [await talk.turn("word " * 40, "word " * 40) for _ in range(50)]
    # 16 turns go at a time: how many fit matters where others have to go, and not while there is room.
    assert asked.count(0) > 25
    assert sum(asked) < 30


async def test_texts_of_very_different_density_take_few_questions_too() -> None:
    talk = Talk(budget=3_000)
    talk.fill(300, words=20)
    talk.said.extend([{"role": "user", "content": "x" * 50_000}, {"role": "assistant", "content": "a " * 200}])
    talk.fill(100, words=20)
    assert await talk.turn("how are you?", "well") <= 12
