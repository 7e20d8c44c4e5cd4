"""Replaces what came with a request by markers that survive a chat template.

A marker is ``number ‖ probe ‖ end``. Number and end are Egyptian hieroglyphs: letters without case that no template
writes, so that a single one left over shows that a template cut a marker, spelled it out or encoded it. The probe
between them has letters of both cases and those characters of the string that templates escape, and so tells, after
rendering, how the template wrote the string: raw, through ``tojson`` (once or several times), or through ``str()`` of a
dict; the content is then written the same way.
Names and ids are checked and cut by templates (Mistral's take the last nine characters of a tool-call id), and no
escaping changes them: each of their characters has a hieroglyph of its own instead. Whitespace around a string stays
around its marker, so that a template that trims still trims.

Equal strings get equal markers, so ``name in required`` still works, and numbers follow the strings' sort order, so
``dictsort`` still sorts. Nothing in a marker is random or secret, and need not be: a template sees no string of the
request but markers, so nobody can forge one.
"""

import json
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cloister_common.errors import InvalidRequest

from cloister_llm.rendering.vocabulary import ROLES, SCHEMA_KEYS, SCHEMA_TYPES

__all__ = ["Found", "Markers"]


def _glyphs(first: int, count: int) -> str:
    """Hieroglyphs: 1,071 code points from U+13000 on."""
    return "".join(chr(0x13000 + at) for at in range(first, first + count))


_DIGITS = _glyphs(0, 26)
_NUMBER_DIGITS = 4
_MOST_STRINGS = len(_DIGITS) ** _NUMBER_DIGITS
_END = _glyphs(26, 1)
_PROBED = "\"'\\&<>"

_IDENTIFIER_KEYS = frozenset({"id", "tool_call_id", "name"})
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{9,64}")
_LETTERS = "".join(sorted("-_" + string.digits + string.ascii_letters, key=lambda letter: (letter.lower(), letter)))
_SHADOWS = _glyphs(27, len(_LETTERS))
_TO_SHADOWS, _FROM_SHADOWS = str.maketrans(_LETTERS, _SHADOWS), str.maketrans(_SHADOWS, _LETTERS)

_TRACE = re.compile(r"[\U00013000-\U0001342e]|ud80c|%F0%93", re.IGNORECASE)  # plain, as JSON's ASCII, in a URL
_DEEPEST = 200


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _printed(text: str) -> str:
    return repr(text)[1:-1]


_WRITINGS: tuple[Callable[[str], str], ...] = (
    str,
    _json,
    lambda text: _json(_json(text)),
    lambda text: _json(_json(_json(text))),
    _printed,
)
_PATTERN = re.compile(
    rf"(?P<number>[{_DIGITS}]{{{_NUMBER_DIGITS}}})(?P<form>[^\U00013000-\U0001342e]+){_END}"
    rf"|(?P<identifier>[{_SHADOWS}]+)"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A marker in a rendered text, and what it stands for."""

    start: int
    end: int
    write: Callable[[str], str]
    """Escapes text as the template escaped the marker."""
    lead: str
    """Whitespace the content begins with; the template has it before the marker, unless it trims."""
    core: str
    trail: str


class Markers:
    """The markers of one request."""

    def __init__(self, *values: Any) -> None:
        """Numbers every content string within ``values`` (messages, tools: what `conceal` will be given).

        Raises:
            InvalidRequest: A nesting or a count beyond all reason.
        """
        strings: set[str] = set()
        identifiers: set[str] = set()
        for value in values:
            for text, key in _strings(value, key=None, depth=0):
                strings.add(text)
                if key in _IDENTIFIER_KEYS and _IDENTIFIER.fullmatch(text):
                    identifiers.add(text)
        if len(strings) > _MOST_STRINGS:
            raise InvalidRequest("The messages and tools hold too many strings.", param="messages")
        self._strings = sorted(strings, key=lambda text: (text.lower(), text))
        self._marker = {
            text: text.translate(_TO_SHADOWS) if text in identifiers else _marker(number, text)
            for number, text in enumerate(self._strings)
        }

    def conceal(self, value: Any) -> Any:
        """A copy of ``value`` with a marker for every content string."""
        return self._conceal(value, None)

    def find(self, text: str) -> Iterator[Found]:
        """The markers in ``text``, from left to right."""
        for match in _PATTERN.finditer(text):
            if match["identifier"]:
                yield Found(match.start(), match.end(), str, "", match["identifier"].translate(_FROM_SHADOWS), "")
            elif (number := _number(match["number"])) < len(self._strings):
                string = self._strings[number]
                probe = _probe(string)
                for write in _WRITINGS:
                    if write(probe) == match["form"]:
                        yield Found(match.start(), match.end(), write, *_margins(string))
                        break

    @staticmethod
    def leaves_traces(text: str) -> bool:
        """Whether ``text`` (rendered, markers taken out) still holds a part of a marker: a template changed one."""
        return _TRACE.search(text) is not None

    def _conceal(self, value: Any, key: str | None) -> Any:
        if isinstance(value, str):
            return value if _is_known(value, key) else self._marker[value]
        if isinstance(value, dict):
            return {
                name if name in SCHEMA_KEYS else self._marker[name]: self._conceal(item, name)
                for name, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._conceal(item, key) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        # What is not JSON could carry text that nobody looked at.
        raise TypeError(f"A chat cannot hold a {type(value).__name__}.")


def _strings(value: Any, key: str | None, depth: int) -> Iterator[tuple[str, str | None]]:
    """Every content string, keys of objects included, with the key it stands under."""
    if depth > _DEEPEST:
        raise InvalidRequest(f"The messages or tools are nested more than {_DEEPEST} deep.", param="messages")
    if isinstance(value, str):
        if not _is_known(value, key):
            yield value, key
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in SCHEMA_KEYS:
                yield name, None
            yield from _strings(item, name, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item, key, depth + 1)


def _is_known(value: str, key: str | None) -> bool:
    """Whether a string is no content: empty, or a word of the closed vocabulary under its own key."""
    return not value or (key == "role" and value in ROLES) or (key == "type" and value in SCHEMA_TYPES)


def _margins(text: str) -> tuple[str, str, str]:
    """Whitespace before, the rest, whitespace after; a string of whitespace only is all before."""
    body = text.lstrip()
    core = body.rstrip()
    return text[: len(text) - len(body)], core, body[len(core) :]


def _marker(number: int, text: str) -> str:
    digits = []
    for _ in range(_NUMBER_DIGITS):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    lead, _, trail = _margins(text)
    return f"{lead}{''.join(reversed(digits))}{_probe(text)}{_END}{trail}"


def _probe(text: str) -> str:
    """Letters in an order that no change of case keeps, what of ``text`` may be escaped, and a control character."""
    return f"aA{''.join(character for character in _PROBED if character in text)}\x1f"


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * len(_DIGITS) + _DIGITS.index(digit)
    return number
