"""Citations of an answer: where they stand, for which passage, and what is left without one."""

from collections.abc import Sequence

import pytest
from cloister_common.errors import InvalidRequest
from cloister_gateway.grounding import Mark, Passage, attribute
from hypothesis import given
from hypothesis import strategies as st


def passage(text: str, filename: str = "a.md") -> Passage:
    return Passage("file-1", filename, 0.9, text, None, None, None)


FRUIT = "An apple is a fruit that grows on trees."
BOATS = "A boat is a vessel that floats on water."
PASSAGES = [passage(FRUIT), passage(BOATS, "b.md")]


async def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
    """One axis for apples, one for boats, one for everything else."""
    return [[float("apple" in text.lower()), float("boat" in text.lower()), 0.1] for text in texts]


async def found(text: str, marks: Sequence[Mark] = (), cited: Sequence[int] = ()) -> list[tuple[int, str]]:
    """Each citation as (passage, the text up to its place)."""
    citations = await attribute(text, PASSAGES, marks=marks, embed=embed, cited=cited)
    assert all(one.quote in {FRUIT, BOATS} for one in citations)
    return [(one.passage, text[: one.at]) for one in citations]


async def test_each_sentence_is_cited_at_its_end() -> None:
    text = "An apple is a fruit. A boat is a vessel."
    assert await found(text) == [(0, "An apple is a fruit."), (1, text)]


async def test_neighbours_with_one_source_are_cited_once_at_the_end() -> None:
    text = "An apple is a fruit. Apples grow on trees."
    assert await found(text) == [(0, text)]


async def test_a_sentence_without_source_between_keeps_both_citations() -> None:
    text = "An apple is a fruit. This is about nothing at all. Apples grow on trees."
    assert await found(text) == [(0, "An apple is a fruit."), (0, text)]


async def test_a_marker_that_its_passage_supports_is_cited_where_it_stood() -> None:
    text = "An apple is a fruit, they say. A boat floats on water."
    assert await found(text, [Mark(0, 19)]) == [(0, "An apple is a fruit"), (1, text)]


async def test_a_marker_whose_passage_does_not_support_its_sentence_is_none() -> None:
    assert await found("Cars have wheels and doors.", [Mark(0, 26)]) == []


async def test_a_marker_of_the_wrong_passage_becomes_a_citation_of_the_right_one() -> None:
    assert await found("A boat is a vessel.", [Mark(0, 18)]) == [(1, "A boat is a vessel")]


async def test_a_marker_behind_the_full_stop_means_the_sentence_before_it() -> None:
    text = "An apple is a fruit. A boat is a vessel."
    assert await found(text, [Mark(0, 20)]) == [(0, "An apple is a fruit."), (1, text)]


async def test_what_an_earlier_holder_of_the_run_has_cited_is_left_alone() -> None:
    text = "An apple is a fruit. A boat is a vessel."
    assert await found(text, cited=[20]) == [(1, text)]


async def test_code_is_not_cited() -> None:
    text = "```\nan_apple_is_a_fruit = True\n# An apple is a fruit.\n```\nA boat is a vessel."
    assert await found(text) == [(1, text)]


async def test_sentences_far_from_every_passage_are_not_cited() -> None:
    assert await found("This sentence is about something else.") == []


async def test_without_vectors_what_is_said_in_the_same_words_is_cited() -> None:
    text = "An apple is a fruit. The floating of any boat, vessel or ship is due to buoyancy."
    citations = await attribute(text, PASSAGES, marks=[], embed=None)
    assert [(one.passage, text[: one.at]) for one in citations] == [(0, "An apple is a fruit.")]


async def test_text_with_a_token_for_each_character_is_compared_in_shorter_pieces() -> None:
    async def embed_short(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        if any(len(text) > 250 for text in texts):
            raise InvalidRequest("too long")
        return await embed(texts)

    table = "The boat with " + "1;2;3;" * 100 + " is a vessel."
    text = "A boat is a vessel."
    citations = await attribute(text, [passage(table)], marks=[], embed=embed_short)
    assert [text[: one.at] for one in citations] == [text]


@pytest.mark.parametrize(
    "text", ["", "Apple.", "\n\n\n", "An apple is " * 40 + "good.", "apple 1, " * 13, "an apple " * 70]
)
async def test_nothing_to_attribute_asks_nobody(text: str) -> None:
    async def refuse(_: Sequence[str]) -> Sequence[Sequence[float]]:
        raise AssertionError("the embedder was asked")

    assert await attribute(text, PASSAGES, marks=[], embed=refuse) == []
    assert await attribute("An apple is a fruit.", [], marks=[], embed=refuse) == []


@given(
    text=st.lists(
        st.sampled_from(["An apple is a fruit", "A boat is a vessel", "Neither of the two", ". ", "\n", "! "])
    ).map("".join),
    places=st.lists(st.integers(0, 100), max_size=3),
)
async def test_citations_are_in_order_and_inside_the_text(text: str, places: list[int]) -> None:
    marks = [Mark(place % 2, place) for place in sorted(places) if place <= len(text)]
    citations = await attribute(text, PASSAGES, marks=marks, embed=embed)
    ends = [citation.at for citation in citations]
    assert ends == sorted(ends)
    assert all(0 <= end <= len(text) for end in ends)
