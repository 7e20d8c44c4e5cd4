"""OpenAI's attribute filters."""

from typing import Any

import pytest
from cloister_common.errors import InvalidRequest
from cloister_common.validation import body_error
from cloister_common.wire.filters import check_depth
from cloister_common.wire.search import SearchRequest
from cloister_retriever.vector_stores.filters import matches
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

ATTRIBUTES: dict[str, Any] = {"region": "eu", "year": 2024, "draft": False, "score": 0.5, "day": "2024-05-01"}


def passes(filters: dict[str, Any], attributes: dict[str, Any] | None = None) -> bool:
    parsed = SearchRequest.model_validate({"query": "q", "filters": filters}).filters
    assert parsed is not None
    return matches(parsed, ATTRIBUTES if attributes is None else attributes)


def compare(kind: str, key: str, value: Any) -> dict[str, Any]:
    return {"type": kind, "key": key, "value": value}


@pytest.mark.parametrize(
    ("kind", "key", "value", "expected"),
    [
        ("eq", "region", "eu", True),
        ("eq", "region", "us", False),
        ("eq", "year", 2024.0, True),
        ("eq", "year", "2024", False),
        ("eq", "draft", False, True),
        ("eq", "draft", 0, False),
        ("ne", "region", "us", True),
        ("ne", "missing", "us", True),
        ("eq", "missing", "us", False),
        ("gt", "year", 2023, True),
        ("gt", "year", 2024, False),
        ("gte", "year", 2024, True),
        ("lt", "score", 0.6, True),
        ("lte", "score", 0.5, True),
        ("lte", "missing", 1, False),
        ("gt", "day", "2024-04-30", True),
        ("gt", "day", 3, False),
        ("in", "region", ["us", "eu"], True),
        ("in", "region", [], False),
        ("nin", "region", ["us", "eu"], False),
        ("nin", "missing", ["us"], True),
        ("in", "year", ["2024"], False),
    ],
)
def test_comparison(kind: str, key: str, value: Any, expected: bool) -> None:
    assert passes(compare(kind, key, value)) is expected


def test_compounds_nest() -> None:
    nested = {
        "type": "and",
        "filters": [
            compare("eq", "region", "eu"),
            {"type": "or", "filters": [compare("lt", "year", 2000), compare("eq", "draft", False)]},
        ],
    }
    assert passes(nested)
    assert not passes(nested, {"region": "eu", "year": 2024, "draft": True})


def test_a_file_without_attributes_passes_only_negations() -> None:
    assert not passes(compare("eq", "region", "eu"), {})
    assert passes(compare("ne", "region", "eu"), {})


@pytest.mark.parametrize(
    "filters",
    [
        compare("like", "region", "e%"),
        compare("in", "region", "eu"),
        compare("eq", "region", ["eu"]),
        compare("gt", "draft", True),
        compare("eq", "region", None),
        {"type": "and", "filters": []},
        {"type": "not", "filters": [compare("eq", "a", 1)]},
        {**compare("eq", "a", 1), "extra": 1},
    ],
)
def test_a_malformed_filter_is_refused(filters: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SearchRequest.model_validate({"query": "q", "filters": filters})


@pytest.mark.parametrize("kind", ["equals", "and"])
def test_the_error_of_a_filter_speaks_of_what_it_was_meant_to_be(kind: str) -> None:
    with pytest.raises(ValidationError) as refused:
        SearchRequest.model_validate(
            {"query": "q", "filters": {"type": kind, ("key" if kind == "equals" else "filters"): "region"}}
        )
    place = {"equals": "filters.type", "and": "filters.filters"}[kind]
    assert body_error(refused.value).param == place


def test_a_filter_that_is_nested_too_deeply_is_refused() -> None:
    filters = compare("eq", "a", 1)
    for _ in range(9):
        filters = {"type": "and", "filters": [filters]}
    parsed = SearchRequest.model_validate({"query": "q", "filters": filters}).filters
    assert parsed is not None
    with pytest.raises(InvalidRequest, match="nested"):
        check_depth(parsed)


values = st.one_of(st.text(max_size=5), st.booleans(), st.integers(-5, 5), st.floats(-5, 5))


@given(attributes=st.dictionaries(st.sampled_from("ab"), values), key=st.sampled_from("ab"), value=values)
def test_ne_and_nin_are_exact_opposites(attributes: dict[str, Any], key: str, value: Any) -> None:
    assert passes(compare("eq", key, value), attributes) is not passes(compare("ne", key, value), attributes)
    assert passes(compare("in", key, [value]), attributes) is not passes(compare("nin", key, [value]), attributes)
    assert passes(compare("in", key, [value]), attributes) is passes(compare("eq", key, value), attributes)
