"""Attribution by similarity, with vectors that the test sets."""

from collections.abc import Sequence

import pytest
from cloister_common.errors import InvalidRequest
from cloister_gateway.grounding import attribute
from hypothesis import given
from hypothesis import strategies as st

PASSAGES = ["apples grow on trees", "boats float on water"]


def vector(text: str) -> list[float]:
    """One axis for apples, one for boats, one for everything else."""
    axes = ["apple" in text.lower(), "boat" in text.lower()]
    values = [float(axis) for axis in axes] if any(axes) else [0.0, 0.0]
    length = sum(values) ** 0.5
    return [*(value / length for value in values), 0.0] if length else [0.0, 0.0, 1.0]


async def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
    return [vector(text) for text in texts]


async def found(text: str, marked: Sequence[int] = ()) -> list[tuple[int, str]]:
    """Each attribution as (passage, the text up to its place)."""
    return [(one.passage, text[: one.end]) for one in await attribute(text, PASSAGES, marked=marked, embed=embed)]


async def test_each_sentence_is_cited_at_its_end() -> None:
    text = "An apple is a fruit. A boat is a vessel."
    assert await found(text) == [(0, "An apple is a fruit."), (1, text)]


async def test_neighbours_with_one_source_are_cited_once_at_the_end() -> None:
    text = "An apple is a fruit. Apples are round things."
    assert await found(text) == [(0, text)]


async def test_a_sentence_without_source_between_keeps_both_citations() -> None:
    text = "An apple is a fruit. This is about nothing at all. Apples are round things."
    assert await found(text) == [(0, "An apple is a fruit."), (0, text)]


async def test_marked_sentences_are_left_alone() -> None:
    text = "An apple is a fruit. A boat is a vessel."
    assert await found(text, marked=[20]) == [(1, text)]


async def test_sentences_far_from_every_passage_are_not_cited() -> None:
    assert await found("This sentence is about something else.") == []


async def test_text_with_a_token_for_each_character_is_compared_in_shorter_pieces() -> None:
    async def embed_short(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        if any(len(text) > 250 for text in texts):
            raise InvalidRequest("too long")
        return await embed(texts)

    text = "An apple is a fruit. A boat is a vessel."
    passages = ["1,2;" * 500 + PASSAGES[0], PASSAGES[1]]
    citations = await attribute(text, passages, marked=[], embed=embed_short)
    assert [(one.passage, text[: one.end]) for one in citations] == [(0, "An apple is a fruit."), (1, text)]


@pytest.mark.parametrize("text", ["", "Apple.", "\n\n\n"])
async def test_nothing_to_attribute_asks_nobody(text: str) -> None:
    async def refuse(_: Sequence[str]) -> Sequence[Sequence[float]]:
        raise AssertionError("the embedder was asked")

    assert await attribute(text, PASSAGES, marked=[], embed=refuse) == []
    assert await attribute("An apple is a fruit.", [], marked=[], embed=refuse) == []


@given(
    text=st.lists(
        st.sampled_from(["An apple is a fruit", "A boat is a vessel", "Neither of the two", ". ", "\n", "! "])
    ).map("".join),
    marked=st.lists(st.integers(0, 100), max_size=3),
)
async def test_citations_are_in_order_and_inside_the_text(text: str, marked: list[int]) -> None:
    citations = await attribute(text, PASSAGES, marked=marked, embed=embed)
    ends = [citation.end for citation in citations]
    assert ends == sorted(set(ends))
    assert all(0 < end <= len(text) for end in ends)
