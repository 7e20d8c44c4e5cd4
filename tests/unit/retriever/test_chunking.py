"""Passages: exact ranges, never longer than the model reads, nothing lost."""

import json
import shutil
import time
from pathlib import Path

import pytest
from cloister_common.settings import SettingsError
from cloister_retriever.parsing import chunking
from cloister_retriever.parsing.chunking import Chunker, ModelLimits, load_tokenizer
from cloister_retriever.parsing.document import Document, Segment
from cloister_retriever.parsing.reader import Reader
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.support.models import minilm_folder

_MAX_TOKENS = 24
_OVERLAP = 6

words = st.sampled_from(
    ["zebra", "naïve", "Straße", "日本語", "😀", "a", "#", "x" * 150, "internationalisation", "1,234.5"]
)
breaks = st.sampled_from([" ", "\n", "\n\n", ". ", "\t", "\n# heading\n", "\n- ", "  "])
texts = st.lists(st.tuples(words, breaks), min_size=1, max_size=60).map(lambda pairs: "".join(w + b for w, b in pairs))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(minilm_folder())


@pytest.fixture(scope="module")
def chunker(tokenizer: Tokenizer) -> Chunker:
    return Chunker(tokenizer, max_tokens=_MAX_TOKENS, overlap_tokens=_OVERLAP)


@given(text=texts, name=st.sampled_from(["a.txt", "a.md"]))
@settings(max_examples=150, deadline=None)
def test_passages_cover_the_text_within_the_limit(chunker: Chunker, tokenizer: Tokenizer, text: str, name: str) -> None:
    document = Reader(10_000_000).read(text.encode(), name)
    covered: set[int] = set()
    for chunk in chunker.chunk(document):
        passage = document.text[chunk.start : chunk.end]
        assert passage.strip()
        assert len(tokenizer.encode(passage, add_special_tokens=False).ids) <= _MAX_TOKENS
        assert any(part.start <= chunk.start and chunk.end <= part.end for part in document.segments)
        covered.update(range(chunk.start, chunk.end))
    visible = {place for place, character in enumerate(document.text) if not character.isspace()}
    assert visible <= covered


@given(
    lines=st.lists(
        st.tuples(st.sampled_from(["", "a", "漢", "a. ", "日。", "word "]), st.integers(0, 60_000)), max_size=8
    ),
    ends=st.sampled_from(["\n", "\n\n", " "]),
)
@settings(max_examples=60, deadline=None)
def test_the_splitter_gets_the_whole_text_in_parts_whose_length_is_bounded(
    lines: list[tuple[str, int]], ends: str
) -> None:
    text = ends.join(piece * (length // max(len(piece), 1)) for piece, length in lines)
    blocks = list(chunking._blocks(text, 0, len(text)))
    assert [start for start, _ in blocks] == [0, *(end for _, end in blocks)][: len(blocks)]
    assert "".join(text[start:end] for start, end in blocks) == text
    for start, end in blocks:
        assert 0 < end - start <= chunking._SPLIT_CHARACTERS
        longest = max(map(len, text[start:end].splitlines()))
        assert longest <= chunking._SPLIT_LINE_CHARACTERS


def test_a_long_line_is_cut_behind_a_sentence() -> None:
    text = "漢字仮名交じり文。" * 1_000
    blocks = list(chunking._blocks(text, 0, len(text)))
    assert len(blocks) > 2
    assert all(text[start:end].endswith("。") for start, end in blocks)


def test_a_question_that_is_far_too_long_is_cut_no_further_than_asked(chunker: Chunker) -> None:
    started = time.process_time()
    assert len(chunker.pieces("漢" * 2_000_000, most=33)) == 33
    assert time.process_time() - started < 5


def test_a_passage_keeps_its_page_and_never_crosses_it(chunker: Chunker) -> None:
    text = "first page here\n\nsecond page here\n\n"
    document = Document(text, segments=[Segment(0, 15, page=1), Segment(17, 33, page=2)])
    chunks = list(chunker.chunk(document))
    assert [(chunk.page, text[chunk.start : chunk.end]) for chunk in chunks] == [
        (1, "first page here"),
        (2, "second page here"),
    ]


@given(text=texts)
@settings(max_examples=100, deadline=None)
def test_no_passage_is_only_a_heading_unless_it_is_as_long_as_text_or_all_there_is(
    chunker: Chunker, tokenizer: Tokenizer, text: str
) -> None:
    document = Reader(10_000_000).read(text.encode(), "a.md")
    lines = {heading.start: heading.end for heading in document.headings}
    for chunk in chunker.chunk(document):
        place = chunk.start
        while place in lines:
            place = lines[place]
            while place < chunk.end and document.text[place].isspace():
                place += 1
        alone = place >= chunk.end
        around = next(part for part in document.segments if part.start <= chunk.start < part.end)
        headings = (document.text[around.start : around.body], document.text[around.tail : around.end])
        long = any(len(tokenizer.encode(one, add_special_tokens=False).ids) * 2 > _MAX_TOKENS for one in headings)
        assert not alone or long or around.body is None


def test_every_passage_of_a_section_has_its_headings_above_as_far_as_the_model_reads(tokenizer: Tokenizer) -> None:
    chunker = Chunker(tokenizer, max_tokens=30, overlap_tokens=0, model_tokens=40)
    text = "# Handbook\n\n## Leave\n\n" + "Every year has days on which nobody works at all. " * 20
    chunks = list(chunker.chunk(Reader(10_000_000).read(text.encode(), "a.md")))
    assert len(chunks) > 3
    assert {chunk.heading for chunk in chunks} == {"Handbook > Leave"}
    assert text[chunks[0].start : chunks[0].end].startswith("# Handbook\n\n## Leave\n\nEvery year")
    for chunk in chunks:
        embedded = f"{chunk.heading}\n{text[chunk.start : chunk.end]}"
        assert len(tokenizer.encode(embedded, add_special_tokens=False).ids) <= 40
    tight = Chunker(tokenizer, max_tokens=30, overlap_tokens=0, model_tokens=30)
    headings = {chunk.heading for chunk in tight.chunk(Reader(10_000_000).read(text.encode(), "a.md"))}
    assert headings <= {None, "Leave", "Handbook > Leave"}


def test_a_word_of_a_megabyte_is_cut_although_it_is_one_token(chunker: Chunker, tokenizer: Tokenizer) -> None:
    text = "x" * 1_000_000
    assert len(tokenizer.encode(text, add_special_tokens=False).ids) == 1
    chunks = list(chunker.chunk(Document(text, segments=[Segment(0, len(text))])))
    assert max(chunk.end - chunk.start for chunk in chunks) <= 6000
    assert chunks[-1].end == len(text)


def test_a_short_query_is_one_piece_and_a_long_one_several(chunker: Chunker) -> None:
    assert chunker.pieces("what do zebras eat?") == ["what do zebras eat?"]
    pieces = chunker.pieces("what do zebras eat in the morning? " * 10)
    assert len(pieces) > 1
    assert all("zebra" in piece or "morning" in piece for piece in pieces)


def test_the_limit_leaves_room_for_the_models_special_tokens() -> None:
    assert ModelLimits.of(minilm_folder()).tokens == 254


def test_the_limit_leaves_room_for_the_longest_prompt(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(minilm_folder(), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    prompts = {"query": "query: ", "passage": "a passage: ", "classification": ""}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    assert ModelLimits.of(folder).tokens == 254 - 3
    assert ModelLimits.of(folder, prompt_tokens=7).tokens == 254 - 7


def test_a_folder_without_a_tokenizer_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="tokenizer_path"):
        ModelLimits.of(tmp_path)
