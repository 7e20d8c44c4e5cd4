"""What a spreadsheet shows of a number: its value through the number format of its cell (ECMA-376, part 1, 18.8.31).

A cell that shows ``50 %`` holds 0.5, and one that shows a day holds how many have passed. Points and commas are those
of the file, which is in American English: what a machine shows in their place that is set to another country is not in
it.
"""

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

from cloister_retriever.parsing.date_formats import shown_date
from cloister_retriever.parsing.format_codes import Section, Token, literal, sections_of

__all__ = ["BUILT_IN", "GENERAL", "plain", "shown", "shown_text"]

GENERAL = "General"
_SYSTEM_DATE, _SYSTEM_DATE_TIME = "yyyy-mm-dd", "yyyy-mm-dd hh:mm"
"""For formats that every machine shows in its own way: the one that nobody takes for another day."""

BUILT_IN = {
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    12: "# ?/?",
    13: "# ??/??",
    5: '"$"#,##0_);("$"#,##0)',
    6: '"$"#,##0_);("$"#,##0)',
    7: '"$"#,##0.00_);("$"#,##0.00)',
    8: '"$"#,##0.00_);("$"#,##0.00)',
    14: _SYSTEM_DATE,
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: _SYSTEM_DATE_TIME,
    **dict.fromkeys((*range(27, 32), 36, *range(50, 55), 57, 58), _SYSTEM_DATE),
    **dict.fromkeys((32, 33, 34, 35, 55, 56), "h:mm"),
    37: "#,##0_);(#,##0)",
    38: "#,##0_);(#,##0)",
    39: "#,##0.00_);(#,##0.00)",
    40: "#,##0.00_);(#,##0.00)",
    41: "#,##0_);(#,##0)",
    42: '"$"#,##0_);("$"#,##0)',
    43: "#,##0.00_);(#,##0.00)",
    44: '"$"#,##0.00_);("$"#,##0.00)',
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
    48: "##0.0E+0",
    49: "@",
}
"""Formats that files name by their number only (18.8.30)."""

_EXACT = 15
"""Digits that a number has in a cell: what is behind them is the arithmetic's."""

_MOST_DECIMALS = 30


def plain(value: float) -> str:
    """A number in a cell without a format."""
    return f"{value:.{_EXACT}g}" if abs(value) < 10**_EXACT else repr(value)


def shown(value: float, code: str, *, since_1904: bool = False) -> str:
    """What a cell shows that holds ``value`` and has the format ``code``.

    Args:
        value: The number. Of a day, how many have passed since 1900 began, or ``since_1904``.
        code: The format. With one that cannot be followed the number is shown as it is.
        since_1904: As workbooks have it that were begun on old Macintoshes.
    """
    if code == GENERAL:
        return plain(value)
    section, negative = _chosen(sections_of(code), value)
    if section is None:
        return plain(value)
    try:
        if section.is_date:
            text = shown_date(value, section, since_1904=since_1904)
        else:
            text = _number(abs(value), section)
            # The second of two sections says itself how a negative number looks.
            text = f"-{text}" if value < 0 and not negative else text
    except (ValueError, ArithmeticError):
        return plain(value)
    return " ".join(text.split())


def shown_text(text: str, code: str) -> str:
    """What a cell shows that holds a text: the format's fourth section says what stands around it."""
    if code in {GENERAL, "@"}:
        return text
    sections = sections_of(code)
    last = sections[-1] if sections else None
    if last is None or (len(sections) < 4 and not any(token.text == "@" for token in last.tokens)):
        return text
    return "".join(text if token.text == "@" else literal(token) for token in last.tokens)


def _chosen(sections: Sequence[Section], value: float) -> tuple[Section | None, bool]:
    """The section for a number, and whether it is for negative ones only; None if it is shown as it is."""
    numbers = [one for one in sections[:3] if not any(token.text == "@" for token in one.tokens)]
    if not numbers:
        return None, False
    for place, section in enumerate(numbers):
        if section.condition is not None:
            if _holds(value, *section.condition):
                return section, section.condition[0] in {"<", "<="} and section.condition[1] <= 0
        elif any(one.condition is not None for one in numbers):
            return section, place > 0 and numbers[0].condition is not None and numbers[0].condition[0] in {">", ">="}
    if any(one.condition is not None for one in numbers):
        return None, False
    if value < 0 and len(numbers) > 1:
        return numbers[1], True
    return numbers[2 if value == 0 and len(numbers) > 2 else 0], False


def _holds(value: float, comparison: str, bound: float) -> bool:
    return {
        "<": value < bound,
        "<=": value <= bound,
        ">": value > bound,
        ">=": value >= bound,
        "=": value == bound,
        "<>": value != bound,
    }[comparison]


def _number(value: float, section: Section) -> str:
    tokens = section.tokens
    if any(token.kind == "general" for token in tokens):
        return "".join(plain(value) if token.kind == "general" else literal(token) for token in tokens)
    places = [at for at, token in enumerate(tokens) if token.kind == "digit"]
    if not places:
        return "".join(literal(token) for token in tokens)
    value_ = Decimal(plain(value)) * 100 ** sum(token == ("sign", "%") for token in tokens)
    if any(token == ("sign", "/") for token in tokens):
        return _fraction(value_, tokens)
    exponent = next((at for at, token in enumerate(tokens) if token.kind == "exponent"), None)
    if exponent is not None:
        return _scientific(value_, tokens, exponent)
    return _decimal(value_, tokens)


def _decimal(value: Decimal, tokens: Sequence[Token]) -> str:
    """Digits in their places: those of a whole part from the right, whatever stands between them."""
    point = next((at for at, token in enumerate(tokens) if token == ("sign", ".")), len(tokens))
    whole = [at for at in range(point) if tokens[at].kind == "digit"]
    after = [at for at in range(point, len(tokens)) if tokens[at].kind == "digit"]
    commas = [at for at, token in enumerate(tokens) if token == ("sign", ",")]
    # One with no more digits on its side of the point stands for three digits that are not shown.
    last, end = (whole or [point])[-1], (after or whole)[-1]
    scale = sum(last < at < point or at > end for at in commas)
    grouped = any(whole and whole[0] < at < whole[-1] for at in commas)
    value /= 1000**scale
    digits = f"{value.quantize(Decimal(1).scaleb(-min(len(after), _MOST_DECIMALS)), ROUND_HALF_UP):f}"
    left, _, right = digits.partition(".")
    left = "" if left == "0" else left
    out: dict[int, str] = {at: literal(token) for at, token in enumerate(tokens) if token != ("sign", ",")}
    for place, at in enumerate(reversed(whole)):
        first = place == len(whole) - 1
        end = len(left) - place
        said = left[:end] if first and end > 0 else left[end - 1 : end] if end > 0 else ""
        out[at] = said or {"0": "0", "?": " "}.get(tokens[at].text, "")
    if grouped:
        _group(out, whole)
    needed = max((place + 1 for place, at in enumerate(after) if tokens[at].text == "0"), default=0)
    kept = right.rstrip("0").ljust(needed, "0") if len(right.rstrip("0")) < needed else right.rstrip("0")
    for place, at in enumerate(after):
        out[at] = kept[place] if place < len(kept) else {"?": " "}.get(tokens[at].text, "")
    return "".join(out[at] for at in sorted(out))


def _group(out: dict[int, str], whole: Sequence[int]) -> None:
    """Puts a comma between every three digits."""
    count = 0
    for at in reversed(whole):
        said = ""
        for digit in reversed(out[at]):
            if digit.isdigit() and count and count % 3 == 0:
                said = f",{said}"
            said = digit + said
            count += digit.isdigit()
        out[at] = said


def _scientific(value: Decimal, tokens: Sequence[Token], exponent: int) -> str:
    before = [token for token in tokens[:exponent] if token.kind == "digit" or token == ("sign", ".")]
    point = next((at for at, token in enumerate(before) if token.text == "."), len(before))
    step = max(point, 1)
    power = value.adjusted() if value else 0
    power = power - power % step if step > 1 else power
    mantissa = _decimal(value.scaleb(-power), tokens[:exponent])
    places = [token for token in tokens[exponent + 1 :] if token.kind == "digit"]
    sign = "-" if power < 0 else "+" if tokens[exponent].text[1] == "+" else ""
    rest = "".join(literal(token) for token in tokens[exponent + 1 :] if token.kind != "digit")
    return f"{mantissa}E{sign}{abs(power):0{max(len(places), 1)}d}{rest}"


def _fraction(value: Decimal, tokens: Sequence[Token]) -> str:
    slash = next(at for at, token in enumerate(tokens) if token == ("sign", "/"))
    below = "".join(token.text for token in tokens[slash + 1 :] if token.kind == "digit" or token.text.isdigit())
    blocks = re.findall(r"[0#?]+", "".join(t.text if t.kind == "digit" else " " for t in tokens[:slash]))
    if below.isdigit() and int(below):
        bottom = int(below)
        top = int((value * bottom).quantize(Decimal(1), ROUND_HALF_UP))
    else:
        near = Fraction(value).limit_denominator(10 ** min(len(below), 7) - 1 if below else 9)
        top, bottom = near.numerator, near.denominator
    if len(blocks) < 2:
        return f"{top}/{bottom}"
    whole, top = divmod(top, bottom)
    if not top:
        return str(whole)
    return f"{whole} {top}/{bottom}" if whole else f"{top}/{bottom}"
