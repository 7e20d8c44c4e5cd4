"""The form of API keys."""

import string

from cloister_gateway.identity import tokens
from hypothesis import given
from hypothesis import strategies as st

MINTED = tokens.mint().token


def test_minted_key_parses_and_matches_under_any_of_the_peppers() -> None:
    key = tokens.mint()
    parsed = tokens.parse(key.token)
    assert parsed == key
    stored = tokens.digest(b"old pepper", key)
    assert tokens.matches([b"new pepper", b"old pepper"], key, stored)
    assert not tokens.matches([b"new pepper"], key, stored)


def test_key_matches_only_with_what_it_was_granted() -> None:
    key = tokens.mint()
    stored = tokens.digest(b"pepper", key, "project", "proj_a", "embeddings", "")
    assert tokens.matches([b"pepper"], key, stored, "project", "proj_a", "embeddings", "")
    for grant in (("admin", "proj_a", "embeddings", ""), ("project", "proj_b", "embeddings", ""), ()):
        assert not tokens.matches([b"pepper"], key, stored, *grant)


@given(st.data())
def test_one_wrong_character_is_found_without_a_look_up(data: st.DataObject) -> None:
    # (One key for all examples: which characters are another one must not change between them.)
    place = data.draw(st.integers(4, len(MINTED) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits).filter(lambda c: c != MINTED[place]))
    assert tokens.parse(MINTED[:place] + other + MINTED[place + 1 :]) is None


@given(st.text())
def test_any_text_is_parsed_without_an_error(text: str) -> None:
    assert tokens.parse(text) is None


def test_redacted_form_shows_nothing_of_the_secret() -> None:
    key = tokens.mint()
    assert key.secret not in key.redacted
    assert len(key.redacted) < 20


def test_keys_differ() -> None:
    assert len({tokens.mint().id for _ in range(1000)}) == 1000
