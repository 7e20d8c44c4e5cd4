"""Tokenising in groups: bounded in texts and characters, so that no request takes the memory of many."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from cloister_common.errors import InvalidRequest
from cloister_common.wire.embeddings import InputType
from cloister_embedder.models import Tokens
from cloister_embedder.tokenizing import prepare

from tests.support.embedder import FakeEncoder, text_tokens

GROUP_CHARACTERS = 1 << 18


class Recording(FakeEncoder):
    """Keeps how many texts and characters came at once."""

    def __init__(self, max_tokens: int = 256) -> None:
        super().__init__(max_tokens=max_tokens)
        self.groups: list[tuple[int, int]] = []

    def prepare(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], input_type: InputType | None = None
    ) -> list[Tokens]:
        self.groups.append((len(texts), sum(len("".join(text)) for text in texts)))
        return super().prepare(texts, input_type)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def field(index: int) -> str:
    return f"input[{index}]"


async def test_many_texts_come_in_groups_and_in_order(executor: ThreadPoolExecutor) -> None:
    encoder, texts = Recording(), [f"text {index}" for index in range(300)]
    assert await prepare(encoder, texts, executor, field) == [text_tokens(text) for text in texts]
    assert [count for count, _ in encoder.groups] == [128, 128, 44]


async def test_a_group_ends_where_its_characters_do(executor: ThreadPoolExecutor) -> None:
    encoder, word = Recording(), "w" * 100_000
    await prepare(encoder, [word] * 5, executor, field)
    assert [count for count, _ in encoder.groups] == [2, 2, 1]


async def test_a_text_that_is_too_long_is_named_before_those_after_it_are_looked_at(
    executor: ThreadPoolExecutor,
) -> None:
    encoder = Recording(max_tokens=4)
    with pytest.raises(InvalidRequest, match=r"'input\[1\]' has 5 tokens; the model reads at most 4") as refused:
        await prepare(encoder, ["fits", "a b c d e", *["x" * 200_000] * 50], executor, field)
    assert refused.value.param == "input[1]"
    assert len(encoder.groups) == 1


async def test_a_text_no_model_could_read_is_refused_by_its_characters(executor: ThreadPoolExecutor) -> None:
    encoder = Recording()
    with pytest.raises(
        InvalidRequest, match=r"'input\[0\]' has 262145 characters; the model reads at most 256"
    ) as refused:
        await prepare(encoder, ["a " * (GROUP_CHARACTERS // 2) + "a"], executor, field)
    assert refused.value.error_code == "context_length_exceeded"
    assert encoder.groups == []
    long = Recording(max_tokens=100_000)
    assert await prepare(long, ["a" * GROUP_CHARACTERS * 2], executor, field)


async def test_a_long_query_is_not_multiplied_by_the_documents(executor: ThreadPoolExecutor) -> None:
    encoder = Recording()
    with pytest.raises(InvalidRequest, match="'input"):
        await prepare(encoder, [("q " * 100_000, f"document {index}") for index in range(1000)], executor, field)
    assert [count for count, _ in encoder.groups] == [1]
