"""What of a text is a term, what of terms is kept, and what passages score by them."""

import numpy as np
import pytest
from cloister_common.vault import VaultError
from cloister_retriever.search.fusion import Weights, fused
from cloister_retriever.terms.postings import Postings, PostingsWriter
from cloister_retriever.terms.store import Segment, StoreWords
from cloister_retriever.terms.weights import AskedTerms, TermKey, asked_terms, dot, passage_terms
from cloister_retriever.terms.words import language_of, words_of

KEY = TermKey(b"k" * 32)


def terms(text: str, language: str = "en") -> set[str]:
    return {term for word in words_of(text, [language]) for term in word.terms}


def pieces(text: str, language: str = "en") -> set[str]:
    return {piece for word in words_of(text, [language]) for piece in word.pieces}


@pytest.mark.parametrize(
    ("one", "other", "language"),
    [
        ("policies", "Policy", "en"),
        ("Lieferzeiten", "LIEFERZEIT", "de"),
        ("Straße", "STRASSE", "de"),
        ("договора", "Договор", "ru"),
        ("entregas", "entrega", "es"),
        ("Caf\u00e9", "cafe\u0301", "fr"),
        ("E-Mail", "email", "de"),
        ("\uff21\uff22\uff23", "abc", "en"),
        ("BX\u201140\u20111172", "bx-40-1172", "en"),
        ("BX401172", "BX-40-1172", "en"),
    ],
)
def test_what_is_the_same_word_has_a_term_in_common(one: str, other: str, language: str) -> None:
    assert terms(one, language) & terms(other, language)


def test_a_code_is_found_as_a_whole_and_by_its_parts() -> None:
    assert {"cbx401172", "sbx", "n40", "n1172"} <= terms("Delivery time of BX-40-1172?")
    assert "cbx401172" not in terms("BX-40-1173")
    assert {"cuserid1", "suser"} <= terms("user_id=user.id_1") | terms("user_id_1")


def test_numbers_are_not_taken_for_one_another() -> None:
    assert not terms("3.5") & terms("35")
    assert not terms("1172") & terms("11720")


def test_the_parts_of_a_compound_have_pieces_in_common_with_it() -> None:
    assert len(pieces("Urlaubsanspruch", "de") & pieces("Anspruch auf Urlaub", "de")) >= 5


@pytest.mark.parametrize(("text", "part"), [("東京都の図書館", "図書館"), ("ห้องสมุดกลาง", "สมุด")])
def test_words_that_no_space_parts_are_found_within_a_sentence(text: str, part: str) -> None:
    assert terms(part, "ja") <= terms(text, "ja")


def test_a_word_of_any_length_costs_no_more_than_its_beginning() -> None:
    assert sum(len(word.pieces) for word in words_of("x" * 100_000, ["en"])) < 100


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How many days of leave does a new employee have in the first year?", "en"),
        ("Wie viele Tage Urlaub haben neue Beschäftigte im ersten Jahr?", "de"),
        ("Сколько дней отпуска у нового сотрудника в первый год?", "ru"),
        (" \n", "en"),
    ],
)
def test_the_language_of_a_text_is_told(text: str, language: str) -> None:
    assert language_of(text) == language


def test_a_term_has_another_id_under_another_key() -> None:
    assert KEY.id_of("sleave") == TermKey(b"k" * 32).id_of("sleave")
    assert KEY.id_of("sleave") != TermKey(b"x" * 32).id_of("sleave")


TEXTS = [
    "The pump BX-40-1172 has a delivery time of five weeks.",
    "The pump BX-40-1173 has a delivery time of two weeks.",
    "Employees have thirty days of leave each year.",
    "Leave is asked for in the calendar.",
]


def postings_of(texts: list[str], *, to_search: bool = True) -> Postings:
    writer = PostingsWriter("en")
    writer.add(passage_terms(KEY, words_of(text, ["en"])) for text in texts)
    return writer.postings(to_search=to_search)


def words_in(*attachments: list[str], to_search: bool = True) -> StoreWords:
    return StoreWords(
        [
            Segment(postings_of(texts, to_search=to_search), [(f"vsf_{number}", len(texts))])
            for number, texts in enumerate(attachments)
        ]
    )


def asked(question: str, words: StoreWords) -> AskedTerms:
    frequencies = words.frequencies()
    return asked_terms(KEY, words_of(question, frequencies.languages), frequencies)


@pytest.mark.parametrize(
    ("question", "best"), [("Delivery time of BX-40-1172?", 0), ("bx401173", 1), ("days of leave", 2), ("calendars", 3)]
)
def test_the_passage_with_the_words_is_found_however_passages_are_spread(question: str, best: int) -> None:
    whole = words_in(TEXTS)
    spread = words_in(TEXTS[:1], TEXTS[1:])
    question_terms = asked(question, whole)
    assert question_terms == asked(question, spread)
    assert whole.scores(question_terms.weights).best(1, None) == [("vsf_0", best)]
    places = [("vsf_0", 0), ("vsf_1", 0), ("vsf_1", 1), ("vsf_1", 2)]
    scores = spread.scores(question_terms.weights)
    assert scores.best(1, None) == [places[best]]
    for number, place in enumerate(places):
        exact = dot(question_terms.weights, passage_terms(KEY, words_of(TEXTS[number], ["en"])))
        assert scores.of(*place) == pytest.approx(exact, rel=1e-2)


def test_only_asked_attachments_are_searched_and_none_without_the_words() -> None:
    words = words_in(TEXTS[:2], TEXTS[2:])
    scores = words.scores(asked("leave", words).weights)
    assert {name for name, _ in scores.best(10, None)} == {"vsf_1"}
    assert scores.best(10, {"vsf_0"}) == []
    assert scores.best(10, set()) == []
    assert scores.of("vsf_none", 0) is None


def test_many_attachments_are_joined_without_a_change() -> None:
    texts = [f"note {number} about item{number}" for number in range(40)]
    words = words_in(*([text] for text in texts))
    assert len(words.segments) == 1
    assert words.frequencies().passages == 40
    for number in (0, 17, 39):
        found = words.scores(asked(f"item{number}", words).weights)
        assert found.best(1, None) == [(f"vsf_{number}", 0)]


def test_what_is_only_counted_tells_what_is_rare_and_finds_nothing() -> None:
    counted, searched = words_in(TEXTS, to_search=False), words_in(TEXTS)
    question = asked("delivery of BX-40-1172", counted)
    assert question == asked("delivery of BX-40-1172", searched)
    assert counted.scores(question.weights).best(5, None) == []


def test_a_question_whose_words_are_nowhere_asks_for_none() -> None:
    words = words_in(TEXTS)
    question = asked("zzz qqq", words)
    assert question.weights == {}
    assert question.most > 0
    assert asked("leave", StoreWords()).weights == {}


@pytest.mark.parametrize("to_search", [True, False])
def test_words_of_many_attachments_are_joined_and_counted_of_those_that_are_seen(to_search: bool) -> None:
    many = [[f"leave of room {number}", "leave and delivery", *TEXTS][: 1 + number % 3] for number in range(40)]
    words = words_in(*many, to_search=to_search)
    assert len(words.segments) == 1
    grown = StoreWords([*words.segments, *words_in(*many[:1], to_search=to_search).segments])
    assert len(grown.segments) == 2  # joined again when there are many
    stems = [KEY.id_of(term) for term in (*sorted(terms("leave delivery calendars 7")), "absent")]
    names = [f"vsf_{number}" for number in range(40)]
    for seen, hidden in (
        (None, set()),
        ({"vsf_1", "vsf_7"}, set()),
        (None, {"vsf_2", "vsf_3"}),
        (set(names), {"vsf_0"}),
    ):
        frequencies = words.frequencies(seen, hidden)
        texts = [
            passage_terms(KEY, words_of(text, ["en"]))
            for name, of in zip(names, many, strict=True)
            if (seen is None or name in seen) and name not in hidden
            for text in of
        ]
        assert frequencies.passages == len(texts)
        assert frequencies.of(stems) == [sum(stem in text for text in texts) for stem in stems]


def test_postings_come_back_as_they_were_kept() -> None:
    again = StoreWords([Segment(Postings.decoded(postings_of(TEXTS).encoded()), [("vsf_0", len(TEXTS))])])
    question = asked("delivery time of BX-40-1173", again)
    assert again.scores(question.weights).best(1, None) == [("vsf_0", 1)]
    empty = PostingsWriter("de").postings(to_search=True)
    assert Postings.decoded(empty.encoded()).passages == 0


@pytest.mark.parametrize("data", [b"", b"{}\n", b"x\n", postings_of(TEXTS).encoded()[:200]])
def test_postings_that_were_cut_do_not_open(data: bytes) -> None:
    with pytest.raises(VaultError):
        Postings.decoded(data)


def test_a_score_stays_in_its_range_and_follows_the_weights() -> None:
    assert fused(1.0000002, 7.0, Weights()) == pytest.approx(1.0)
    assert fused(-0.3, -0.0, Weights()) == 0.0
    assert fused(0.4, None, Weights()) == pytest.approx(0.4)
    assert fused(0.4, 0.8, Weights(1, 0)) == pytest.approx(0.4)
    assert fused(0.4, 0.8, Weights(0, 2)) == pytest.approx(0.8)
    assert fused(0.4, 0.8, Weights(3, 1)) == pytest.approx(0.5)


def test_words_weigh_by_their_rarity() -> None:
    words = words_in([*TEXTS, *("the leave of all",) * 10])
    weights = asked("calendar leave", words).weights
    assert weights[KEY.id_of("scalendar")] > 2 * weights[KEY.id_of("sleav")] > 0
    assert np.isfinite(list(weights.values())).all()


def test_what_a_large_store_has_almost_everywhere_is_not_looked_for() -> None:
    words = words_in([f"the note {number}" for number in range(1000)])
    weights = asked("the note 7", words).weights
    assert weights.keys() == {KEY.id_of("n7")}
    small = words_in([f"the note {number}" for number in range(10)])
    assert KEY.id_of("snote") in asked("the note 7", small).weights
