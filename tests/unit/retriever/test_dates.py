"""Dates of many forms find each other, and follow-ups find the file that is called by one."""

from collections.abc import Sequence

import pytest
from cloister_common.vault import DataKey
from cloister_retriever.index.entries import terms_of
from cloister_retriever.index.passages import Passage
from cloister_retriever.keys import passage_keys
from cloister_retriever.terms.dates import dates_of
from cloister_retriever.terms.postings import PostingsWriter
from cloister_retriever.terms.store import Segment, StoreWords
from cloister_retriever.terms.weights import TermKey, asked_terms
from cloister_retriever.terms.words import words_of

DAY = {"202503", "20250312"}
FORMS = [
    "12.03.2025", "12. 3. 2025", "12.3.25", "2025-03-12", "2025/03/12", "20250312", "2025_03_12", "12-03-2025",
    "12 march 2025", "march 12, 2025", "march 12th, 2025", "the 12th of march 2025", "12. märz 2025", "12 mars 2025",
    "12 de marzo de 2025", "12 marca 2025", "12 марта 2025", "mar 12, 2025", "report_20250312.pdf",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_day_is_the_same_in_every_form(form: str) -> None:
    assert set(dates_of(form)) - {"2025"} == DAY


@pytest.mark.parametrize("form", ["march 2025", "märz 2025", "2025-03", "03/2025", "3/2025", "mars 2025", "March 2025"])
def test_a_month_is_the_same_in_every_form(form: str) -> None:
    assert set(dates_of(form.casefold())) == {"202503"}


def test_where_both_numbers_may_be_the_month_both_readings_count() -> None:
    assert set(dates_of("12/03/2025")) == {"202503", "20250312", "202512", "20251203"}
    assert set(dates_of("25/03/2025")) == {"202503", "20250325"}


@pytest.mark.parametrize(
    "text", ["bx-40-1172", "192.168.10.25", "+49 30 12345678", "42.13.2025", "may i", "1.2", "march", "3/4", "v2.3.4"]
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert [date for date in dates_of(text) if len(date) > 4] == []


def test_a_year_of_two_digits_is_found_as_a_number() -> None:
    assert ("n2025",) in {word.terms for word in words_of("12.03.25", ["en"])}
    assert ("n1998",) in {word.terms for word in words_of("12.03.98", ["en"])}


def test_long_rows_of_digits_and_signs_end() -> None:
    for text in ("1." * 50_000, "12 " * 30_000, "march " * 20_000, "2025-" * 20_000, "march 2025 " * 10_000):
        assert len(list(dates_of(text))) <= 10_000


def scores(names: Sequence[str], texts: Sequence[str], question: str) -> list[float]:
    """The share of the question's words that each text has, of a file with each name."""
    keys = passage_keys(DataKey(b"s" * 32, tenant="t"), DataKey(b"f" * 32, tenant="t"))
    writer = PostingsWriter("en")
    for name, text in zip(names, texts, strict=True):
        writer.add(terms_of(keys, [Passage(position=0, text=text, start=0, end=len(text))], "en", name))
    words = StoreWords([Segment(writer.postings(to_search=True), [("a", len(texts))])])
    asked = asked_terms(TermKey(keys.terms), words_of(question, ["en"]), words.frequencies())
    found = words.scores(asked.weights)
    return [(found.of("a", position) or 0.0) / asked.most for position in range(len(texts))]


@pytest.mark.parametrize(
    "question",
    [
        "and in the one of 2025?",
        "what did the meeting of March 2025 decide",
        "and on 12.03.2025?",
        "that of 2025-03-12",
    ],
)
def test_a_follow_up_finds_the_file_that_has_the_date_in_its_name(question: str) -> None:
    names = [f"minutes_{year}-03-12.txt" for year in (2023, 2024, 2025, 2026)]
    found = scores(names, ["The board met and decided on the budget."] * 4, question)
    assert max(range(4), key=found.__getitem__) == 2
    assert found[2] > sorted(found)[-2]


def test_a_date_that_no_passage_has_takes_nothing_from_the_others() -> None:
    texts = ["The zebra eats grass.", "Lions drink water."]
    # The same words, of which the second have no order that makes a date of them.
    dated, bare = (scores(["a", "b"], texts, f"zebra grass {words}")[0] for words in ("12 march 2025", "2025 march 12"))
    assert dated == pytest.approx(bare)
