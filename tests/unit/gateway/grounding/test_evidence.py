"""What a passage supports, as far as forms tell: values, names, negations, opposites, and what belongs to what."""

import pytest
from cloister_gateway.grounding.evidence import Reading, Support, sentences
from hypothesis import given
from hypothesis import strategies as st

from tests.support.claims import TOPICS


def supported(passage: str, sentence: str) -> bool:
    return Support(passage).evidence(Reading(sentence)) is not None


@pytest.mark.parametrize(
    ("passage", "same", "other"),
    [
        ("It weighs 1,250 kg.", "It weighs 1.25 t.", "It weighs 1.25 kg."),
        ("Es wiegt 1.250 kg.", "Es wiegt 1250 Kilogramm.", "Es wiegt 1,25 kg."),
        ("Il pèse 1 250 kg.", "Il pèse 1250 kg.", "Il pèse 1520 kg."),
        ("The tank holds half a litre.", "The tank holds 500 ml.", "The tank holds 500 l."),
        ("It takes 90 minutes.", "It takes 1.5 hours.", "It takes 90 hours."),
        ("It costs $4.2 million.", "It costs 4,200,000 dollars.", "It costs 4.2 million euros."),
        ("Sie hat fünfundzwanzig Seiten.", "Sie hat 25 Seiten.", "Sie hat 52 Seiten."),
        ("Open from 9 am to 5:30 pm.", "Open until 17:30.", "Open until 17:00."),
        ("Signed on 3 May 2021.", "Signed on May 3, 2021.", "Signed on 5 March 2021."),
        ("Am 3. Mai 2021 unterzeichnet.", "Unterzeichnet am 03.05.2021.", "Unterzeichnet am 03.06.2021."),
        ("Подписан 12 марта 2022 года.", "Подписан 12.03.2022.", "Подписан 12 мая 2022 года."),
        (
            "Order BX-40-1172 is late.",
            "Order BX 40-1172 is late.".replace("BX 40", "BX-40"),
            "Order BX-40-1127 is late.",
        ),
        ("About 31 people came.", "Roughly 30 people came.", "Roughly 40 people came."),
        ("It fell to -5 °C.", "It fell to -5 °C.", "It fell to 5 °C."),
    ],
)
def test_a_value_is_the_same_however_it_is_written_and_another_is_not(passage: str, same: str, other: str) -> None:
    assert supported(passage, same)
    assert not supported(passage, other)


@pytest.mark.parametrize(
    ("passage", "true", "false"),
    [
        ("Pets are not allowed.", "Pets are forbidden.", "Pets are allowed."),
        ("Haustiere sind verboten.", "Haustiere sind nicht erlaubt.", "Haustiere sind erlaubt."),
        ("Entry is free with a ticket.", "Entry is free with a ticket.", "Entry is free without a ticket."),
        ("Prices rose in May.", "Prices increased in May.", "Prices fell in May."),
        ("No more than six fit in.", "At most six fit in.", "At least six fit in."),
        ("Dahl follows Lund.", "Dahl follows Lund.", "Lund follows Dahl."),
        ("Acme bought Zenith.", "Zenith was bought by Acme.", "Zenith bought Acme."),
        ("Anna leads sales, Maria leads support.", "Maria leads support.", "Maria leads sales."),
        ("Alpha costs 5 euros and Beta costs 7 euros.", "Beta costs 7 euros.", "Beta costs 5 euros."),
        ("Das Werk in Bremen schließt.", "Das Werk in Bremen schließt.", "Das Werk in Hamburg schließt."),
        ("It takes 300 g of oil and 40 g of wax.", "It takes 40 g of wax.", "It takes 40 g of oil."),
        ("It draws 45 µA in standby.", "It draws 0.045 mA in standby.", "It draws 45 mA in standby."),
        ("Mr Raman was paged.", "Mr Raman was paged.", "Mr Ramanathan was paged."),
        (
            "Pellan may quit with six months' notice, Norwood only with twelve.",
            "Pellan may quit with six months' notice.",
            "Norwood may quit with six months' notice.",
        ),
        ("Take QX-21 before QX-31.", "Take QX-21 before QX-31.", "Take QX-31 before QX-21."),
        ("QX-31 replaces QX-21.", "QX-31 replaces QX-21.", "QX-21 replaces QX-31."),
        ("Rooms 5 and 3 are free.", "Rooms 3 and 5 are free.", "Rooms 5 and 4 are free."),
        ("The third camp was cold.", "The third camp was cold.", "The second camp was cold."),
        (
            "Sleep fell in group A by 19 minutes and in group B by 6 minutes.",
            "In group A sleep fell by 19 minutes.",
            "In group B sleep fell by 19 minutes.",
        ),
        (
            "Die Gruppe A erhielt 3 mg Jod, die Gruppe B ein Placebo.",
            "Die Gruppe B erhielt ein Placebo.",
            "Die Gruppe A erhielt ein Placebo.",
        ),
        (
            "Die Spätschicht leitet Anke Thiele, die Frühschicht leitet Mehmet Kaya.",
            "Anke Thiele leitet die Spätschicht.",
            "Mehmet Kaya leitet die Spätschicht.",
        ),
        ("Das Geld ist im Mai abzurufen.", "Das Geld wird im Mai abgerufen.", "Das Geld wird im Juni abgerufen."),
        (
            "| Plan | Fee | Support |\n| --- | --- | --- |\n| Basic | 9 EUR | e-mail |\n| Team | 29 EUR | telephone |",
            "The Team plan has support by telephone.",
            "The Basic plan has support by telephone.",
        ),
        (
            "Region: North | Growth: 12 %\nRegion: South | Growth: 7 %",
            "Growth in the South region was 7 %.",
            "Growth in the North region was 7 %.",
        ),
    ],
)
def test_one_thing_that_is_otherwise_takes_the_support_away(passage: str, true: str, false: str) -> None:
    assert supported(passage, true)
    assert not supported(passage, false)


def test_most_true_sentences_are_supported_by_their_passage_and_few_false_ones() -> None:
    believed, missed = [], []
    for topic in TOPICS:
        support = Support(topic.text, topic.filename)
        missed += [one for one in topic.true if support.evidence(Reading(one)) is None]
        believed += [one for one in topic.false if support.evidence(Reading(one)) is not None]
    assert len(missed) <= 0.1 * sum(len(topic.true) for topic in TOPICS), missed
    assert len(believed) <= 0.05 * sum(len(topic.false) for topic in TOPICS), believed


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Am 3. Mai kam Dr. Wolf. Er ging.", ["Am 3. Mai kam Dr. Wolf.", "Er ging."]),
        ("It is 3.5 m long. It sank", ["It is 3.5 m long.", "It sank"]),
        ("a line\n\nanother", ["a line", "another"]),
        ("", []),
    ],
)
def test_sentences_end_where_readers_end_them(text: str, parts: list[str]) -> None:
    assert [text[start:end].strip() for start, end in sentences(text)] == parts


@given(text=st.text(max_size=200), sentence=st.text(max_size=80))
def test_any_text_can_be_held_against_any(text: str, sentence: str) -> None:
    evidence = Support(text).evidence(Reading(sentence))
    assert evidence is None or (evidence.quote in text and 0 <= evidence.share <= 1)


@given(text=st.text(alphabet="0123456789.,:-/ €%kgmMaiJune", max_size=40))
def test_any_number_can_be_read(text: str) -> None:
    assert all(value.values for value in Reading(text).quantities)
