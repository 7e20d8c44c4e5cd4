"""Codes of number formats (ECMA-376, part 1, 18.8.31) in their parts: sections, and what stands in them."""

import functools
import re
from typing import NamedTuple

__all__ = ["Section", "Token", "literal", "sections_of"]

_LONGEST = 255
"""Characters of a format, as Excel has it; a longer one is not looked at."""

_SYSTEM_DATE, _SYSTEM_HOURS = "yyyy-mm-dd", "hh:mm:ss"
"""For what every machine shows in its own way: the day that nobody takes for another one."""

_TOKEN = re.compile(
    r"""(?P<literal>"[^"]*"?|\\.|!.)|(?P<blank>_.)|(?P<fill>\*.)|(?P<bracket>\[[^\]]*\])|(?P<general>General)"""
    r"""|(?P<half>AM/PM|A/P|\u4e0a\u5348/\u4e0b\u5348)|(?P<exponent>E[+-])|(?P<date>y+|m+|d+|h+|s+|e+|b+|aaa+|g+)"""
    r"""|(?P<fraction>(?<=[sS])\.0+|(?<=[sS]\])\.0+)|(?P<digit>[0#?])|(?P<sign>[.,%/@;])|(?P<other>.)""",
    re.IGNORECASE | re.DOTALL,
)
_CONDITION = re.compile(r"\[(<=|>=|<>|<|>|=)(-?[0-9.]{1,30})\]")
_ELAPSED = re.compile(r"\[(h+|m+|s+)\]", re.IGNORECASE)
_LOCALE = re.compile(r"\[\$([^\]-]{0,40})(?:-([0-9A-Fa-f]{1,8}))?\]")
_SYSTEM_LONG_DATE, _SYSTEM_TIME = 0xF800, 0xF400


class Token(NamedTuple):
    """What stands in a format: the name of what it is in the pattern above, or ``elapsed`` or ``currency``."""

    kind: str
    text: str


class Section(NamedTuple):
    """What numbers of one kind are shown with: positive ones, negative ones, or those of a condition.

    Attributes:
        tokens: What stands in it.
        condition: A comparison and what with, if there is one.
        language: Windows' number of the one that it asks for, or 0.
    """

    tokens: list[Token]
    condition: tuple[str, float] | None
    language: int

    @property
    def is_date(self) -> bool:
        """Whether it shows days or times."""
        return any(token.kind in {"date", "elapsed", "half"} for token in self.tokens)


def literal(token: Token) -> str:
    """What a token is that stands for itself."""
    if token.kind == "literal":
        return token.text.strip('"') if token.text[0] == '"' else token.text[1:]
    if token.kind == "blank":
        return " "
    return "" if token.kind == "fill" else token.text


@functools.lru_cache(maxsize=4_096)
def sections_of(code: str) -> tuple[Section, ...]:
    """The sections of a format, four at most; none where it is too long to be one."""
    if len(code) > _LONGEST:
        return ()
    sections: list[Section] = []
    tokens: list[Token] = []
    condition: tuple[str, float] | None = None
    language = 0

    def end() -> None:
        sections.append(Section(_months_and_minutes(tokens), condition, language))

    for match in _TOKEN.finditer(code):
        kind, text = match.lastgroup or "other", match[0]
        if kind == "bracket":
            if (found := _CONDITION.fullmatch(text)) is not None:
                condition = (found[1], _float(found[2]))
            elif (found := _ELAPSED.fullmatch(text)) is not None:
                tokens.append(Token("elapsed", found[1].lower()))
            elif (found := _LOCALE.fullmatch(text)) is not None:
                language = int(found[2] or "0", 16) & 0xFFFF
                tokens.append(Token("currency", found[1]))
                if language in {_SYSTEM_LONG_DATE, _SYSTEM_TIME}:
                    return sections_of(_SYSTEM_HOURS if language == _SYSTEM_TIME else _SYSTEM_DATE)
        elif kind == "sign" and text == ";":
            end()
            tokens, condition, language = [], None, 0
        else:
            tokens.append(Token(kind, text.lower() if kind == "date" else text))
    end()
    return tuple(sections[:4])


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _months_and_minutes(tokens: list[Token]) -> list[Token]:
    """``m`` is minutes right behind hours or right before seconds, and months elsewhere."""
    timed = [at for at, token in enumerate(tokens) if token.kind in {"date", "elapsed"}]
    made = list(tokens)
    for place, at in enumerate(timed):
        token = tokens[at]
        if token.kind == "date" and token.text in {"m", "mm"}:
            before = tokens[timed[place - 1]].text if place else ""
            after = tokens[timed[place + 1]].text if place + 1 < len(timed) else ""
            if before[:1] == "h" or after[:1] == "s":
                made[at] = Token("date", "n" * len(token.text))
    return made
