"""The queries of a turn."""

from typing import Any

from cloister_gateway.grounding.search import Retrieval


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


def test_queries_join_the_last_questions_while_they_are_short() -> None:
    assert Retrieval.queries(said("a", "b", "c", "d")) == ["d", "b\nc\nd"]
    assert Retrieval.queries([*said("a"), {"role": "assistant", "content": "no"}, *said("b")]) == ["b", "a\nb"]
    assert Retrieval.queries(said("x" * 500, "y" * 200)) == ["y" * 200]
    assert Retrieval.queries(said("z" * 5000)) == ["z" * 2400]
    assert Retrieval.queries([{"role": "system", "content": "x"}]) == []
    assert Retrieval.queries(said(" \n")) == []
