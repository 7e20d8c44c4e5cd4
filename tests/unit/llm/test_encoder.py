"""Markup and content tokenised apart: seams, prefixes, and the property that holds for all text."""

import json

import pytest
from cloister_common.errors import InvalidRequest
from cloister_llm.rendering import PieceEncoder
from cloister_llm.rendering.pieces import Piece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.unit.llm.conftest import CONTROL, PLAIN_ADDED

SPELLINGS = [*CONTROL, *PLAIN_ADDED, "<|", "im_start", "|>", " ", "\n", "<", "think>"]


def content(text: str) -> Piece:
    return Piece(text, content=True)


def markup(text: str) -> Piece:
    return Piece(text, content=False)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(SPELLINGS), st.text(max_size=8)), max_size=12))
def test_content_never_gives_a_control_id_and_decodes_to_itself(byte_level: Tokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    encoder = _encoder(byte_level.to_str())
    ids = encoder.encode_content(text)
    assert encoder.control_ids.isdisjoint(ids)
    assert byte_level.decode(ids, skip_special_tokens=False) == text


_ENCODERS: dict[str, PieceEncoder] = {}


def _encoder(data: str) -> PieceEncoder:
    return _ENCODERS.setdefault(data, PieceEncoder(data))


def test_markup_keeps_its_control_tokens(byte_level: Tokenizer) -> None:
    encoder = _encoder(byte_level.to_str())
    ids = encoder.encode([markup("<|im_start|>user\n"), content("<|im_end|>"), markup("<|im_end|>")])
    assert ids[0] == encoder.added_tokens["<|im_start|>"]
    assert ids[-1] == encoder.added_tokens["<|im_end|>"]
    assert ids.count(encoder.added_tokens["<|im_end|>"]) == 1


def test_markup_with_a_callers_numbers_in_it_does_not_fill_the_cache(byte_level: Tokenizer) -> None:
    encoder = PieceEncoder(byte_level.to_str())
    text = "<|im_start|>" + ", ".join(map(str, range(2000)))
    assert encoder.encode([markup(text)]) == byte_level.encode(text, add_special_tokens=False).ids
    assert encoder._markup.cache_info().currsize == 0
    encoder.encode([markup("<|im_start|>")])
    assert encoder._markup.cache_info().currsize == 1


def test_ordinary_text_is_tokenised_as_ever(byte_level: Tokenizer) -> None:
    text = "the quick brown fox"
    assert _encoder(byte_level.to_str()).encode_content(text) == byte_level.encode(text).ids


def test_no_space_is_put_before_pieces_within_the_prompt(sentencepiece_like: Tokenizer) -> None:
    encoder = _encoder(sentencepiece_like.to_str())
    ids = encoder.encode([markup("<s>[INST]"), content(" the quick"), markup(" [/INST]")])
    pieces = [sentencepiece_like.id_to_token(token) for token in ids]
    assert "".join(str(piece) for piece in pieces) == "<s>[INST]▁the▁quick▁[/INST]"


def test_what_stands_at_the_start_or_after_a_control_token_begins_as_it_always_does(
    sentencepiece_like: Tokenizer,
) -> None:
    encoder = _encoder(sentencepiece_like.to_str())
    alone = sentencepiece_like.encode("the fox</s>the fox", add_special_tokens=False).ids
    assert encoder.encode([markup("the fox</s>the fox")]) == alone
    after = encoder.encode([content("a"), markup("the fox</s>the fox")])
    assert [sentencepiece_like.id_to_token(token) for token in after][-len(alone) :].count("</s>") == 1
    assert after[-1] == alone[-1]


def test_spellings_in_a_unigram_vocabulary_are_not_found(sentencepiece_like: Tokenizer) -> None:
    encoder = _encoder(sentencepiece_like.to_str())
    for text in ("</s>", "[INST]", "<s>a"):
        assert encoder.control_ids.isdisjoint(encoder.encode_content(text))


def test_a_character_the_vocabulary_lacks_is_refused_not_replaced(sentencepiece_like: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="tokenizer"):
        _encoder(sentencepiece_like.to_str()).encode_content("你")


def test_a_lone_surrogate_is_refused(byte_level: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="cannot write"):
        _encoder(byte_level.to_str()).encode_content("\ud800")


def test_prefixes_of_every_kind_are_taken_off(byte_level: Tokenizer) -> None:
    data = json.loads(byte_level.to_str())
    data["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{**data["pre_tokenizer"], "add_prefix_space": True}],
    }
    assert _encoder(json.dumps(data)).encode_content("the") == byte_level.encode("the").ids
    metaspace = Tokenizer(models.WordLevel({"▁a": 0, "a": 1, "<unk>": 2}, unk_token="<unk>"))
    metaspace.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    assert metaspace.encode("a").ids == [0]
    assert _encoder(metaspace.to_str()).encode_content("a") == [1]


def test_a_tokenizer_that_cannot_be_taken_apart_is_said() -> None:
    with pytest.raises(ValueError, match="cannot be split"):
        PieceEncoder(json.dumps({"version": "1.0", "added_tokens": [], "model": {"type": "none", "vocab": {}}}))


@pytest.mark.parametrize("text", ["hello", " hello", "<s>[INST] hi", "a</s>"])
def test_a_prompt_of_content_alone_begins_as_every_text_does(sentencepiece_like: Tokenizer, text: str) -> None:
    encoder = _encoder(sentencepiece_like.to_str())
    ids = encoder.encode_prompt(text)
    assert encoder.control_ids.isdisjoint(ids)
    assert sentencepiece_like.decode(ids, skip_special_tokens=False) == f" {text}"
    harmless = encoder.encode_prompt("hello")
    assert harmless == sentencepiece_like.encode("hello", add_special_tokens=False).ids


def test_a_prompt_of_content_alone_is_no_control_token(byte_level: Tokenizer) -> None:
    encoder = _encoder(byte_level.to_str())
    assert encoder.encode_prompt("<|im_start|>") == encoder.encode_content("<|im_start|>")
