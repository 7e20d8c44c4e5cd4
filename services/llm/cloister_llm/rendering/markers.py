"""Replaces what came with a request by markers that survive a chat template.

A marker is ``number ‖ head ‖ U+001F ‖ tail``: a running number of four letters, then random letters drawn for this one
request. The unit separator in the middle tells, after rendering, how the template wrote the string: raw, or through
``tojson`` (JSON escapes it as ``\\u001f``, twice escaped as ``\\\\u001f``), or through ``str()`` of a dict (``\\x1f``);
the content is then escaped the same way. Names and ids get a marker of their own length without the separator, since
templates check it (Mistral's insists on tool-call ids of nine characters) and no escaping changes them. Whitespace
around a string stays around its marker, so that a template that trims still trims.

Equal strings get equal markers, so ``name in required`` still works, and numbers follow the strings' sort order, so
``dictsort`` still sorts and the same request always renders to the same ids.
"""

import json
import re
import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cloister_common.errors import InvalidRequest

from cloister_llm.rendering.vocabulary import ROLES, SCHEMA_KEYS, SCHEMA_TYPES

__all__ = ["Found", "Markers", "escape"]

_NUMBER_LETTERS = 4
_RANDOM_LETTERS = 12
_WINDOW = 8  # letters: a run this long is no accident (26**8 to 1) and shows that a marker was cut or changed
_MOST_STRINGS = 26**_NUMBER_LETTERS
_DEEPEST = 200

_SEPARATOR = "\x1f"
_PYTHON_FORM = "\\x1f"
_IDENTIFIER_KEYS = frozenset({"id", "tool_call_id", "name"})
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{9,64}")


@dataclass(frozen=True, slots=True)
class Found:
    """A marker in a rendered text, and what it stands for."""

    start: int
    end: int
    form: str
    """The separator as the template wrote it; empty for an identifier."""
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
        self._head, self._tail = _letters(_RANDOM_LETTERS), _letters(_RANDOM_LETTERS)
        self._short = {length: _letters(length - _NUMBER_LETTERS) for length in {len(text) for text in identifiers}}
        self._marker = {
            text: self._make(_count(number), text, identifier=text in identifiers)
            for number, text in enumerate(self._strings)
        }
        heads = [rf"{self._head}(?P<form>\x1f|\\+u001f|\\x1f){self._tail}", *self._short.values()]
        self._pattern = re.compile(rf"(?P<number>[a-z]{{{_NUMBER_LETTERS}}})(?:{'|'.join(heads)})")

    def conceal(self, value: Any) -> Any:
        """A copy of ``value`` with a marker for every content string."""
        return self._conceal(value, None)

    def find(self, text: str) -> Iterator[Found]:
        """The markers in ``text``, from left to right."""
        for match in self._pattern.finditer(text):
            number = _number(match["number"])
            if number >= len(self._strings):
                continue
            form = match["form"] or ""
            lead, core, trail = _margins(self._strings[number]) if form else ("", self._strings[number], "")
            yield Found(match.start(), match.end(), form, lead, core, trail)

    def leaves_traces(self, text: str) -> bool:
        """Whether ``text`` (rendered, markers taken out) still holds a part of a marker: a template changed one."""
        lowered = text.lower()
        return any(
            letters[at : at + _WINDOW].lower() in lowered
            for letters in (self._head, self._tail)
            for at in range(_RANDOM_LETTERS - _WINDOW + 1)
        )

    def _make(self, count: str, text: str, *, identifier: bool) -> str:
        if identifier:
            return count + self._short[len(text)]
        lead, _, trail = _margins(text)
        return f"{lead}{count}{self._head}{_SEPARATOR}{self._tail}{trail}"

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
        return value


def escape(text: str, form: str) -> str:
    """``text`` as the template wrote the marker with separator ``form``.

    Raises:
        InvalidRequest: An escaping that JSON does not produce.
    """
    if form in {"", _SEPARATOR}:
        return text
    if form == _PYTHON_FORM:
        # Both quotes at the end make repr choose single quotes whatever the text holds, as it did for the marker.
        return repr(text + "'\"")[1:-4]
    backslashes = len(form) - len("u001f")
    depth = backslashes.bit_length()
    if backslashes != 1 << (depth - 1):
        raise InvalidRequest("The model's chat template escapes text in an unknown way.", param="messages")
    for _ in range(depth):
        text = json.dumps(text, ensure_ascii=False)[1:-1]
    return text


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


def _letters(count: int) -> str:
    return "".join(secrets.choice(string.ascii_letters) for _ in range(count))


def _count(number: int) -> str:
    letters = []
    for _ in range(_NUMBER_LETTERS):
        number, digit = divmod(number, 26)
        letters.append(string.ascii_lowercase[digit])
    return "".join(reversed(letters))


def _number(count: str) -> int:
    number = 0
    for letter in count:
        number = number * 26 + string.ascii_lowercase.index(letter)
    return number
