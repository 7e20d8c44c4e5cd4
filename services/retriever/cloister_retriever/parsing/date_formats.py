"""What a spreadsheet shows of a number that is a day or a time."""

import datetime
from decimal import ROUND_HALF_UP, Decimal

from cloister_retriever.parsing.format_codes import Section, literal
from cloister_retriever.parsing.month_names import days_of, months_of

__all__ = ["shown_date"]

_EXACT = 15
"""Digits of a number that are the cell's, and not the arithmetic's."""

_LAST_DAY = 2_958_465
"""The last of the year 9999."""

_LEAP_DAY = 60
"""29 February 1900, which Excel has and no calendar."""

_THAI = 543
"""Years by which the Buddhist calendar is ahead."""


def shown_date(value: float, section: Section, *, since_1904: bool) -> str:
    """A day, a time, or both, as a section of a format says.

    Raises:
        ValueError: There is no such day.
    """
    tokens = section.tokens
    fraction = next((len(token.text) - 1 for token in tokens if token.kind == "fraction"), 0)
    unit = 10 ** min(fraction, 6)
    ticks = int(Decimal(f"{value * 86_400 * unit:.{_EXACT}g}").quantize(Decimal(1), ROUND_HALF_UP))
    if value < 0 or value > _LAST_DAY + 1:
        raise ValueError("no such day")
    day, ticks_of_day = divmod(ticks, 86_400 * unit)
    seconds, part = divmod(ticks_of_day, unit)
    year, month, date, weekday = _calendar(day, since_1904=since_1904)
    hour, minute, second = seconds // 3600, seconds // 60 % 60, seconds % 60
    half = any(token.kind == "half" for token in tokens)
    months, days = months_of(section.language), days_of(section.language)
    thai = year + _THAI
    named = {
        **dict.fromkeys(("yyyy", "yyy"), f"{year:04d}"),
        **dict.fromkeys(("yy", "y"), f"{year % 100:02d}"),
        **dict.fromkeys(("e", "ee"), str(year)),
        **dict.fromkeys(("bbbb", "b"), str(thai)),
        "bb": f"{thai % 100:02d}",
        "m": str(month),
        "mm": f"{month:02d}",
        "mmm": months[month - 1][:3],
        "mmmm": months[month - 1],
        "mmmmm": months[month - 1][:1],
        "d": str(date),
        "dd": f"{date:02d}",
        **dict.fromkeys(("ddd", "aaa"), days[weekday][:3]),
        **dict.fromkeys(("dddd", "aaaa"), days[weekday]),
        "n": str(minute),
        "nn": f"{minute:02d}",
        "s": str(second),
        "ss": f"{second:02d}",
    }
    hours = (hour - 1) % 12 + 1 if half else hour
    named |= {"h": str(hours), "hh": f"{hours:02d}"}
    total = {"h": day * 24 + hour, "m": day * 1440 + seconds // 60, "s": day * 86_400 + seconds}
    out = []
    for token in tokens:
        if token.kind == "date":
            longest = {"h": "hh", "s": "ss", "y": "yyyy", "d": "dddd", "m": "mmmm", "a": "aaaa"}.get(token.text[0], "")
            out.append(named.get(token.text, named.get(longest, "")))
        elif token.kind == "elapsed":
            out.append(f"{total[token.text[0]]:0{len(token.text)}d}")
        elif token.kind == "half":
            first, second_half = token.text.split("/")
            out.append(first if hour < 12 else second_half)
        elif token.kind == "fraction":
            out.append(f".{part:0{fraction}d}" if fraction <= 6 else "")
        elif token != ("sign", "@"):
            out.append(literal(token))
    return "".join(out)


def _calendar(day: int, *, since_1904: bool) -> tuple[int, int, int, int]:
    """Year, month, day and weekday, from Monday on, of a day by its number."""
    if not since_1904 and day == _LEAP_DAY:
        return 1900, 2, 29, 2
    if not since_1904 and day == 0:
        return 1900, 1, 0, 5  # the day of a time that is of none
    start = datetime.date(1904, 1, 1) if since_1904 else datetime.date(1899, 12, 31 if day < _LEAP_DAY else 30)
    found = start + datetime.timedelta(days=day)
    return found.year, found.month, found.day, found.weekday()
