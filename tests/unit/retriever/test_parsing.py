"""Telling types apart, decoding, finding headings. No process is started here."""

import time

import pytest
from cloister_retriever.parsing.decoding import clean
from cloister_retriever.parsing.detect import detect
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.kinds.table import KINDS, SUPPORTED
from cloister_retriever.parsing.reader import Reader

from tests.support.documents import pdf
from tests.support.office import docx, xlsx, zipped


def parse_text(content: bytes, name: str) -> Document:
    return Reader(16 * 1024 * 1024).read(content, name)


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        (b"plain words", "a.txt", "text"),
        (pdf(["one"]), "a.txt", "pdf"),
        (b"junk\n" + pdf(["one"]), "a.md", "pdf"),
        (b"%PDF-1.7\n1 0 obj <<>> endobj trailer <<>>", "a.txt", "pdf"),
        (b"%PDF-1.7 ...", "a.txt", "text"),
        (b"junk\n%PDF-1.4", "a.md", "markdown"),
        (docx(""), "a.txt", "docx"),
        (xlsx({"a": [["b"]]}), "a.zip", "spreadsheet"),
        (zipped({"word.txt": "a"}), "a.docx", "archive"),
        (b"<!DOCTYPE html><p>hi", "a.txt", "html"),
        (b"\xef\xbb\xbf  <!-- x --><HTML>", "a.md", "html"),
        (b"<p align=center>\n\n# Ours", "a.md", "markdown"),
        (b"<style>p {}</style>\n\n# Ours", "a.md", "markdown"),
        (b"  <!-- x --><HTML>", "a.txt", "html"),
        (b"<!-- x -->\n" * 200 + b"<html\n lang=en>", "a.txt", "html"),
        (b"a,b\n1,2", "table.CSV", "delimited"),
        (b"words, not a PDF", "a.pdf", "text"),
        (b"Received: by a\nFrom: b\nSubject: c\n\nd", "a.txt", "mail"),
        (b"MZ is how this sentence begins.", "a.txt", "text"),
        (b"<!-- x -->\n" * 300 + b"# Leave", "a.md", "markdown"),
        (b"<!-- not closed <html>", "a.txt", "text"),
        (b"<htmlish>", "a.txt", "text"),
    ],
)
def test_the_content_says_the_type(content: bytes, name: str, kind: str) -> None:
    assert detect(content, name).name == kind


@pytest.mark.parametrize(
    ("content", "name", "code"),
    [
        (b"", "a.txt", "invalid_file"),
        (b" \r\n\x00\x00", "a.txt", "invalid_file"),
        (b"PK\x03\x04....", "a.txt", "unsupported_file"),
        (b"\x89PNG\r\n", "a.txt", "unsupported_file"),
        (b"MZ\x90\x00\x03", "a.txt", "unsupported_file"),
        (b"\x1f\x8b\x08\x00", "a.txt", "unsupported_file"),
    ],
)
def test_what_is_not_read_is_refused_with_its_code(content: bytes, name: str, code: str) -> None:
    with pytest.raises(UnreadableFile) as raised:
        detect(content, name)
    assert raised.value.code == code
    assert raised.value.message.endswith(".")


def test_cleaning_keeps_words_and_drops_what_cannot_be_seen() -> None:
    assert clean("a\r\nb\rc\x00\x1b[31md\ufeff\u2028e") == "a\nb\nc[31md\ne"
    assert clean("u\u0308") == "ü"


def test_headings_make_sections_with_their_path() -> None:
    text = "intro\n# One\nfirst\n## Two ##\nsecond\n```\n# not a heading\n```\n# Three\nthird\n"
    document = parse_text(text.encode(), "a.md")
    sections = [(part.section, document.text[part.start : part.end]) for part in document.segments]
    assert sections == [
        (None, "intro\n"),
        ("One", "# One\nfirst\n"),
        ("One > Two", "## Two ##\nsecond\n```\n# not a heading\n```\n"),
        ("Three", "# Three\nthird\n"),
    ]


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("# C#", "C#"),
        ("# Two ##", "Two"),
        ("# Two ##  ", "Two"),
        ("# # ", None),
        ("#\tTabs\t#", "Tabs"),
        ("# a # b", "a # b"),
    ],
)
def test_only_hashes_that_stand_apart_close_a_heading(line: str, title: str | None) -> None:
    document = parse_text(f"{line}\nwords\n".encode(), "a.md")
    assert [part.section for part in document.segments] == [title]


@pytest.mark.parametrize("comment", [b"<!-- x -->\n", b"<!---->", b"<!-- ", b"--><!--", b" \n"])
def test_a_file_that_begins_with_thousands_of_comments_takes_no_time_to_tell(comment: bytes) -> None:
    started = time.process_time()
    assert detect(comment * 100_000 + b"words", "a.txt").name == "text"
    assert time.process_time() - started < 2


def test_two_hundred_thousand_accents_on_one_letter_take_no_time() -> None:
    started = time.process_time()
    text = clean("a" + "\u0316\u0301" * 100_000 + "z")
    assert time.process_time() - started < 2
    assert (text[0], text[-1], len(text) > 200_000) == ("\u00e1", "z", True)


def test_as_many_accents_as_a_language_needs_are_left_alone() -> None:
    assert clean("u" + "\u0308" + "\u0316" * 29) == "u\u0316".replace("u", "\u00fc", 1) + "\u0316" * 28


@pytest.mark.parametrize("filler", [" ", "# ", "#", "\t#"])
def test_a_heading_of_a_hundred_thousand_blanks_and_hashes_takes_no_time(filler: str) -> None:
    started = time.process_time()
    parse_text(f"# {filler * 100_000}x\n# b\n".encode(), "a.md")
    assert time.process_time() - started < 2


def test_text_with_a_stray_hash_stays_one_segment() -> None:
    document = parse_text(b"# comment\nvalue = 1\n", "config.txt")
    assert not document.markdown
    assert [(part.start, part.end, part.section) for part in document.segments] == [(0, 20, None)]


def test_the_sentence_of_a_refusal_names_every_kind_that_is_read() -> None:
    assert SUPPORTED.startswith("plain text, source code, JSON, PDF, DOCX, PPTX, XLSX")
    assert SUPPORTED.endswith("EML, CSV and TSV")


def test_a_kind_that_is_entered_in_the_table_is_told_by_what_it_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Kind(
        "sound",
        called=("OGG",),
        parse=lambda source: Document(source.name),
        claims=lambda look: look.content.startswith(b"OggS"),
    )
    monkeypatch.setattr("cloister_retriever.parsing.detect.KINDS", (*KINDS, sound))
    found = detect(b"OggS\x00....", "a.txt")
    assert found.parse(Source(b"OggS", "a.txt", 10)).text == "a.txt"
    assert detect(b"words", "a.txt").name == "text"
