"""Numbers, dates, times and codes of a text, as values: ``1,500 ml`` and ``1.5 litres`` are the same, ``32`` and
``ISO 46`` are not.

Numbers are read as the language of the text writes them (``1.250`` are a thousand and more in German, and little more
than one in English), in digits and in words, with the unit that follows. Units of one dimension are compared in it.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from cloister_gateway.grounding.evidence.spots import DAY_HALVES, Spot
from cloister_gateway.grounding.evidence.units import CURRENCIES, HALVES, MONTHS, MULTIPLIERS, UNITS, number_word
from cloister_gateway.grounding.evidence.words import APPROXIMATE, FUNCTION_WORDS, words_of

__all__ = ["Quantity", "quantities"]


class Quantity(NamedTuple):
    """A value that a text gives.

    Attributes:
        kind: ``number``, ``date``, ``time`` or ``code``.
        values: What it may mean: a number that is written ambiguously has two readings. Of a date (year, month, day)
            with None for what is not said, of a time minutes, of a code its letters and digits.
        unit: The dimension in which the values are, such as ``length``; None where no unit is known.
        start, end: Where it stands.
        rough: Whether the text says that it is not exact.
        label: The word before a number without a unit: ``Room 5``, ``ISO 32``.
    """

    kind: str
    values: frozenset[object]
    unit: str | None
    start: int
    end: int
    rough: bool = False
    label: str | None = None

    def agrees(self, other: "Quantity") -> bool:
        """Whether ``other``, of a passage, says what this one, of a sentence, says."""
        if self.kind == "number" and other.kind == "date" and self.unit is None:
            return any(isinstance(date, tuple) and date[0] in self.values for date in other.values)
        if self.kind != other.kind:
            return False
        if self.kind == "date":
            return any(_dates_agree(mine, theirs) for mine in self.values for theirs in other.values)
        if self.kind == "number" and None not in (self.unit, other.unit) and self.unit != other.unit:
            return False
        if self.values & other.values:
            return True
        if not self.rough or self.kind != "number":
            return False
        return any(
            abs(mine - theirs) <= abs(theirs) * _ROUGHLY
            for mine in self.values
            for theirs in other.values
            if isinstance(mine, Decimal) and isinstance(theirs, Decimal)
        )


_ROUGHLY = Decimal("0.05")
_LEAST_YEAR, _MOST_YEAR = 1500, 2199


def quantities(found: Sequence[Spot], language: str | None) -> list[Quantity]:
    """The values among the spots of a text in that language, in order."""
    values: list[Quantity] = []
    place = 0
    while place < len(found):
        taken, quantity = _read(found, place, language)
        if quantity is not None:
            values.append(quantity)
        place += max(taken, 1)
    return _with_shared_units(values, found)


def _read(found: Sequence[Spot], place: int, language: str | None) -> tuple[int, Quantity | None]:
    """The value that begins at ``place``, and how many spots it takes."""
    spot = found[place]
    if spot.kind == "date":
        return 1, Quantity("date", _numeric_dates(spot.text), None, spot.start, spot.end)
    if spot.kind == "code":
        return 1, Quantity("code", frozenset({re.sub(r"[\W_]", "", spot.text).casefold()}), None, spot.start, spot.end)
    if spot.kind == "time":
        hours, minutes = (int(part) for part in spot.text.split(":"))
        taken, shift = _day_half(found, place + 1, hours)
        end = found[place + taken].end
        return 1 + taken, Quantity("time", frozenset({hours * 60 + minutes + shift}), None, spot.start, end)
    dated = _written_date(found, place)
    if dated is not None:
        return dated
    taken, numbers = _number(found, place, language)
    if not numbers:
        return 1, None
    return _measured(found, place, taken, numbers)


def _number(found: Sequence[Spot], place: int, language: str | None) -> tuple[int, frozenset[Decimal]]:
    """The number at ``place`` in its readings, and how many spots it takes."""
    spot = found[place]
    if spot.kind == "number":
        numbers = frozenset(_readings(spot.text, language))
        before = found[place - 1] if place else None
        if before is not None and before.text in {"-", "−", "–"} and before.end == spot.start:
            apart = place < 2 or found[place - 2].end < before.start
            if apart and (place < 2 or found[place - 2].kind != "number"):
                numbers = frozenset(-number for number in numbers)
        taken = 1
    elif spot.kind == "word" and (value := number_word(spot.folded)) is not None:
        taken, total = 1, value
        while place + taken < len(found):
            following = number_word(found[place + taken].folded) if found[place + taken].kind == "word" else None
            if following is None or following >= total or total < 20 or following >= 10:
                break
            total, taken = total + following, taken + 1
        numbers = frozenset({Decimal(total)})
        if spot.folded in HALVES:
            numbers = frozenset({Decimal("0.5")})
            if place + 1 < len(found) and found[place + 1].folded in {"a", "an", "eine", "einen"}:
                taken += 1
    else:
        return 0, frozenset()
    while place + taken < len(found) and found[place + taken].folded in MULTIPLIERS:
        factor = MULTIPLIERS[found[place + taken].folded]
        numbers = frozenset(number * factor for number in numbers)
        taken += 1
        if place + taken < len(found) and found[place + taken].text == ".":
            taken += 1
    return taken, numbers


def _measured(
    found: Sequence[Spot], place: int, taken: int, numbers: frozenset[Decimal]
) -> tuple[int, Quantity | None]:
    start, end = found[place].start, found[place + taken - 1].end
    before = found[place - 1] if place else None
    rough = any(spot.folded in APPROXIMATE for spot in found[max(0, place - 2) : place])
    if before is not None and before.text != "%" and before.folded in CURRENCIES:
        unit = CURRENCIES[before.folded]
        return taken, Quantity("number", frozenset(numbers), unit, before.start, end, rough)
    following = found[place + taken] if place + taken < len(found) else None
    if following is None:
        return taken, _plain(found, place, numbers, start, end, rough)
    hours = next(iter(numbers))
    half, shift = _day_half(found, place + taken, int(hours) if hours == int(hours) else 0)
    if half:
        last = found[place + taken + half - 1].end
        values: frozenset[object] = frozenset({int(number) * 60 + shift for number in numbers})
        return taken + half, Quantity("time", values, None, start, last)
    word = following.folded.replace(" ", "")
    if word in CURRENCIES:
        return taken + 1, Quantity("number", frozenset(numbers), CURRENCIES[word], start, following.end, rough)
    if word in UNITS:
        unit, factor = UNITS[word]
        values = frozenset(number * factor for number in numbers)
        return taken + 1, Quantity("number", values, unit, start, following.end, rough)
    return taken, _plain(found, place, numbers, start, end, rough)


def _plain(
    found: Sequence[Spot], place: int, numbers: frozenset[Decimal], start: int, end: int, rough: bool
) -> Quantity | None:
    # "One of them" is no number, and neither is an article.
    if found[place].kind == "word" and numbers <= {Decimal(1), Decimal("0.5")}:
        return None
    before = found[place - 1] if place else None
    label = None
    if before is not None and before.kind == "word" and before.folded not in FUNCTION_WORDS:
        label = before.folded
    return Quantity("number", frozenset(numbers), None, start, end, rough, label)


def _day_half(found: Sequence[Spot], place: int, hours: int) -> tuple[int, int]:
    """How many spots say which half of the day is meant, and by how many minutes that shifts a time."""
    word = found[place].folded if place < len(found) else ""
    if word in DAY_HALVES:
        half = DAY_HALVES[word]
        return 1, half - 720 if hours == 12 else half
    if word in {"a", "p"} and [spot.folded for spot in found[place + 1 : place + 3]] == [".", "m"]:
        half = DAY_HALVES[word + "m"]
        return 3, half - 720 if hours == 12 else half
    return (1, 0) if word in {"uhr", "oclock", "o'clock", "heures"} else (0, 0)


def _readings(text: str, language: str | None) -> list[Decimal]:
    """What a number in digits may mean."""
    text = re.sub(r"[ \u00a0\u202f'’]", "", text)
    dots, commas = text.count("."), text.count(",")
    if dots and commas:
        decimal = "." if text.rfind(".") > text.rfind(",") else ","
        other = "," if decimal == "." else "."
        return [Decimal(text.replace(other, "").replace(decimal, "."))]
    mark = "." if dots else "," if commas else ""
    if not mark:
        return [Decimal(text)]
    whole, grouped = Decimal(text.replace(mark, "")), text.rpartition(mark)[2]
    if text.count(mark) > 1:
        return [whole]
    part = Decimal(text.replace(mark, "."))
    if len(grouped) != 3 or text.startswith("0"):
        return [part]
    if language is None:
        return [whole, part]
    return [whole if (mark == ",") == (language == "en") else part]


def _numeric_dates(text: str) -> frozenset[object]:
    parts = [int(part) for part in re.split(r"[-./]\s?", text)]
    if parts[0] > _LEAST_YEAR:
        return frozenset({(parts[0], parts[1], parts[2])})
    day_first = (parts[2], parts[1], parts[0])
    # With slashes, Europe writes the day first, America the month.
    return frozenset({day_first, (parts[2], parts[0], parts[1])}) if "/" in text else frozenset({day_first})


def _written_date(found: Sequence[Spot], place: int) -> tuple[int, Quantity] | None:
    """A date with the name of its month: ``14 June 2023``, ``June 14, 2023``, ``3. Mai``, ``May``."""
    day: int | None = None
    at = place
    if 0 < _whole(found[at]) <= 31:
        day, at = _whole(found[at]), at + 1
        while at < len(found) and found[at].folded in {".", "of", "de"}:
            at += 1
    month = MONTHS.get(found[at].folded) if at < len(found) and found[at].kind == "word" else None
    if month is None or (day is None and not found[at].text[:1].isupper() and found[at].folded in _WORDS_TOO):
        return None
    end = found[at].end
    at += 1
    if at < len(found) and found[at].text == "." and found[at].start == end and len(found[at - 1].text) <= 4:
        at += 1
    if day is None and at < len(found) and 0 < _whole(found[at]) <= 31:
        day, end, at = _whole(found[at]), found[at].end, at + 1
    year: int | None = None
    ahead = at + 1 if at + 1 < len(found) and found[at].folded in {",", "of", "de", "des", "года"} else at
    if ahead < len(found) and _LEAST_YEAR < _whole(found[ahead]) <= _MOST_YEAR:
        year, end, at = _whole(found[ahead]), found[ahead].end, ahead + 1
    introduced = place > 0 and found[place - 1].folded in _BEFORE_MONTHS
    if day is None and year is None and found[place].folded in _WORDS_TOO and not introduced:
        return None
    return at - place, Quantity("date", frozenset({(year, month, day)}), None, found[place].start, end)


def _whole(spot: Spot) -> int:
    """The number in digits that a spot is; -1 if it is none."""
    return int(spot.text) if spot.kind == "number" and spot.text.isdecimal() else -1


_BEFORE_MONTHS = words_of("in im von vom bis ab seit from until till since to between en de depuis jusqu'en with")
_WORDS_TOO = frozenset({"may", "march", "mar", "mai", "mars", "sept"})
"""Months that are words of another kind too: with neither day nor year they are taken for such."""


def _dates_agree(mine: object, theirs: object) -> bool:
    """Whether what both say of a date is the same. A year that only the sentence has is looked for elsewhere."""
    if not isinstance(mine, tuple) or not isinstance(theirs, tuple):
        return False
    if mine[1] != theirs[1] or (mine[2] is not None and mine[2] != theirs[2]):
        return False
    return mine[0] is None or theirs[0] is None or mine[0] == theirs[0]


def _with_shared_units(values: list[Quantity], found: Sequence[Spot]) -> list[Quantity]:
    """Of a range, such as ``9–17 Uhr`` or ``from 3 to 5 kg``, the first has the unit of the second."""
    shared = list(values)
    for place in range(len(values) - 1, 0, -1):
        mine, following = shared[place - 1], shared[place]
        between = [spot.folded for spot in found if mine.end <= spot.start and spot.end <= following.start]
        if mine.kind != "number" or mine.unit is not None or len(between) != 1 or between[0] not in _RANGES:
            continue
        if following.kind == "time":
            times = frozenset(int(value) * 60 for value in mine.values if isinstance(value, Decimal))
            shared[place - 1] = mine._replace(kind="time", values=times)
        elif following.kind == "date":
            dates = frozenset(
                (date[0], date[1], int(value))
                for date in following.values
                if isinstance(date, tuple)
                for value in mine.values
                if isinstance(value, Decimal) and value <= 31
            )
            if dates:
                shared[place - 1] = mine._replace(kind="date", values=dates)
        elif following.kind == "number" and following.unit is not None:
            factor = _factor(following, found)
            numbers = frozenset(value * factor for value in mine.values if isinstance(value, Decimal))
            shared[place - 1] = mine._replace(values=numbers, unit=following.unit)
    return shared


_RANGES = frozenset({"-", "–", "—", "to", "bis", "a", "до", "and", "und", "et", "и", "or", "oder"})


def _factor(quantity: Quantity, found: Sequence[Spot]) -> Decimal:
    for spot in found:
        if quantity.start <= spot.start and spot.end <= quantity.end and spot.folded.replace(" ", "") in UNITS:
            return UNITS[spot.folded.replace(" ", "")][1]
    return Decimal(1)
