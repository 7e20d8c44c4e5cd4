"""The chat model's real tokenizer: no text whatever becomes a control token."""

import pytest
from cloister_llm.rendering import PieceEncoder
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

SPELLINGS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<filename>", "<|", "im_", "|>", "\n", " "]


@pytest.fixture(scope="session")
def encoder(tokenizer: PreTrainedTokenizerFast) -> PieceEncoder:
    """Its parts, taken apart."""
    return PieceEncoder(tokenizer.backend_tokenizer.to_str())


@pytest.fixture(scope="session")
def writable(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    """Bytes the vocabulary can write. It lacks some that its training text never had; text loses those everywhere."""
    vocabulary = tokenizer.get_vocab()
    return {byte for byte, spelling in bytes_to_unicode().items() if spelling in vocabulary}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.lists(st.one_of(st.sampled_from(SPELLINGS), st.text(max_size=12)), max_size=10).map("".join))
def test_content_gives_no_control_id_and_decodes_to_itself(
    tokenizer: PreTrainedTokenizerFast, encoder: PieceEncoder, writable: set[int], text: str
) -> None:
    ids = encoder.encode_content(text)
    assert encoder.control_ids.isdisjoint(ids)
    assume(writable.issuperset(text.encode()))
    assert tokenizer.decode(ids) == text


def test_every_added_token_is_known_as_a_control_token(
    tokenizer: PreTrainedTokenizerFast, encoder: PieceEncoder
) -> None:
    assert encoder.control_ids == set(tokenizer.added_tokens_decoder)


def test_ordinary_text_is_tokenised_as_ever(tokenizer: PreTrainedTokenizerFast, encoder: PieceEncoder) -> None:
    text = "Zürich is a city.\n\nIt has 1,234 trees; def f(x): return x**2"
    assert encoder.encode_content(text) == tokenizer.encode(text, add_special_tokens=False)
