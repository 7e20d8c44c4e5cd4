"""The context encoding is injective: different lists of parts never give the same bytes."""

import pytest
from cloister_common.vault import encode_context
from hypothesis import given
from hypothesis import strategies as st

PARTS = st.lists(st.one_of(st.text(max_size=6), st.integers(), st.binary(max_size=6)), max_size=6)


def typed(parts: list[str | int | bytes]) -> list[tuple[str, str | int | bytes]]:
    return [(type(part).__name__, part) for part in parts]


@given(one=PARTS, other=PARTS)
def test_equal_bytes_mean_equal_parts(one: list[str | int | bytes], other: list[str | int | bytes]) -> None:
    assert (encode_context(*one) == encode_context(*other)) == (typed(one) == typed(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("a", ""), ("a",)),
        ((), ("",)),
        (("1",), (1,)),
        (("a",), (b"a",)),
        ((1, 23), (12, 3)),
        ((-1,), ("-1",)),
        (("a\x00b",), ("a", "b")),
        ((encode_context("a", "b"),), ("a", "b")),
    ],
)
def test_parts_that_a_separator_would_confuse_differ(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert encode_context(*one) != encode_context(*other)


@given(parts=PARTS, more=st.one_of(st.text(max_size=6), st.integers(), st.binary(max_size=6)))
def test_no_encoding_is_the_beginning_of_another(parts: list[str | int | bytes], more: str | int | bytes) -> None:
    assert not encode_context(*parts, more).startswith(encode_context(*parts))
