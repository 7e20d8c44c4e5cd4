"""Reads a list of calls while it is written, each character once.

The list is what `cloister_llm.calls.schema.answer_schema` allows and nothing else, since the model is constrained to
it: ``[{"name": …, "arguments": {…}}, …]``, cut anywhere where it ran out of tokens.
"""

import json
from dataclasses import dataclass

__all__ = ["CallPiece", "CallReader"]


@dataclass(slots=True)
class CallPiece:
    """What is new of one call.

    Attributes:
        index: Which of the list it is.
        name: The tool's name, with the first piece only.
        arguments: JSON as the model wrote it; all pieces joined are the arguments.
    """

    index: int
    name: str | None
    arguments: str


class CallReader:
    """The calls of one answer."""

    def __init__(self) -> None:
        self._index = -1
        self._name = ""
        self._key: str | None = None
        self._text: list[str] = []  # of the string that is being read
        self._quoted = self._escaped = False
        self._levels = 0  # of braces within arguments

    def feed(self, text: str) -> list[CallPiece]:
        """What ``text``, which follows all that was fed before, adds."""
        pieces: list[CallPiece] = []
        for character in text:
            if self._levels:
                self._within_arguments(character)
                self._add(pieces, None, character)
            elif self._quoted:
                self._within_string(character)
            elif character == '"':
                self._quoted = True
            elif character == "{" and self._key == "arguments":
                self._levels = 1
                self._key = None
                self._add(pieces, self._name, character)
            elif character == "{":
                self._index += 1
        return pieces

    def _within_arguments(self, character: str) -> None:
        if self._quoted:
            self._end_of_string(character)
        elif character == '"':
            self._quoted = True
        elif character == "{":
            self._levels += 1
        elif character == "}":
            self._levels -= 1

    def _within_string(self, character: str) -> None:
        self._text.append(character)
        if not self._end_of_string(character):
            return
        text = json.loads('"' + "".join(self._text))
        self._text.clear()
        if self._key is None:
            self._key = text
        else:  # the value of "name", the only string there is
            self._name, self._key = text, None

    def _end_of_string(self, character: str) -> bool:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._quoted = False
        return not self._quoted

    def _add(self, pieces: list[CallPiece], name: str | None, text: str) -> None:
        if pieces and pieces[-1].index == self._index and name is None:
            pieces[-1].arguments += text
        else:
            pieces.append(CallPiece(self._index, name, text))
