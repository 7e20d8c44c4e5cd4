"""Dates of a text in one form each, so that "12.03.2025", "2025-03-12" and "March 2025" find each other.

A day is found by itself and by its month, and a month by itself. Its year is a number among the words anyway, and is
added where it was written with two digits. Which of two numbers is the month is not guessed: where both may be, both
readings count. Month names are those of nine languages, whole or shortened.
"""

import re
from collections.abc import Iterator

__all__ = ["dates_of"]

_NAMES = """
january jan januar jänner janvier janv enero ene gennaio gen janeiro januari stycznia styczeń января январь
february feb februar février févr febrero febbraio fevereiro februari lutego luty февраля февраль
march mar märz maerz mrz mars marzo março maart marca marzec марта март
april apr avril avr abril aprile abr kwietnia kwiecień апреля апрель
may mai mayo maggio maio mei maja maj мая май
june jun juni juin junio giugno junho czerwca czerwiec июня июнь
july jul juli juillet juil julio luglio julho lipca lipiec июля июль
august aug août agosto ago augustus sierpnia sierpień августа август
september sep sept septembre septiembre settembre setembro września wrzesień сентября сентябрь
october oct oktober okt octobre octubre ottobre outubro października październik октября октябрь
november nov novembre noviembre novembro listopada listopad ноября ноябрь
december dec dezember dez décembre déc diciembre dic dicembre dezembro grudnia grudzień декабря декабрь
"""
_MONTHS = {name: number for number, line in enumerate(_NAMES.split("\n")) for name in line.split()}

_NAME = "|".join(sorted(_MONTHS, key=len, reverse=True))
_YEAR = r"(?:19|20)\d\d"
_RUN = re.compile(r"\d[\d/._-]*")
"""Every date has digits: the patterns below look at what this finds, and at what stands before a year."""

_SPACED = re.compile(rf"\d\d?\.\s\d\d?\.\s?{_YEAR}(?!\d)")
_ISO = re.compile(rf"({_YEAR})([-/._]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
_MONTH = re.compile(rf"({_YEAR})[-/](0[1-9]|1[0-2])|(0?[1-9]|1[0-2])/({_YEAR})")
_DAY = re.compile(rf"(\d\d?)([./-])(\d\d?)\2({_YEAR}|\d\d)")
_NAMED = re.compile(
    rf"(?<!\w)(?:(?P<before>\d\d?)(?:st|nd|rd|th|\.|º)?(?:\s(?:de|of))?\s)?(?P<name>{_NAME})\.?"
    r"(?:\s(?P<after>\d\d?)(?:st|nd|rd|th)?,)?(?:\s(?:de|of))?[\s_-]$"
)
_BEFORE = 40
"""Characters before a year that may say its month and day."""

_NINETIES = 70
"""Of a year with two digits: from here on it is one of the last century."""


def dates_of(text: str) -> Iterator[str]:
    """What each date of ``text`` (in lower case) is found by: ``20250312``, ``202503``, and the year if it is cut."""
    for match in _SPACED.finditer(text):
        if not text[max(0, match.start() - 1) : match.start()].isdigit():
            yield from _numbers("".join(match[0].split()))
    for match in _RUN.finditer(text):
        run = match[0].rstrip("/._-")
        if len(run) == 4:
            yield from _named(text[max(0, match.start() - _BEFORE) : match.start()], run)
        elif len(run) > 4:
            yield from _numbers(run)


def _numbers(run: str) -> Iterator[str]:
    if iso := _ISO.match(run):
        yield from _dated(iso[1], int(iso[3]), int(iso[4]))
    elif month := _MONTH.fullmatch(run):
        yield from _dated(month[1] or month[4], int(month[2] or month[3]), 0)
    elif day := _DAY.fullmatch(run):
        year, one, two = _whole(day[4]), int(day[1]), int(day[3])
        if year != day[4]:
            yield year
        for number, of_month in {(two, one), (one, two)} if day[2] == "/" else {(two, one)}:
            yield from _dated(year, number, of_month)


def _named(before: str, year: str) -> Iterator[str]:
    found = _NAMED.search(before) if year[:2] in {"19", "20"} else None
    if found is not None:
        yield from _dated(year, _MONTHS[found["name"]], int(found["before"] or found["after"] or 0))


def _dated(year: str, month: int, day: int) -> Iterator[str]:
    if 1 <= month <= 12 and day <= 31:
        yield f"{year}{month:02}"
        if day:
            yield f"{year}{month:02}{day:02}"


def _whole(year: str) -> str:
    return year if len(year) == 4 else f"{19 if int(year) >= _NINETIES else 20}{year}"
