"""What was said before a turn, and what a prompt needs to know of it: where turns begin, and how long they are.

A thousand messages are looked at once, when they are added, and not with every turn again. That is also where it is
noted how many tokens a prompt had that was sent: the next one is mostly the same with a little more, so whether it
fits is known without asking the model's tokenizer.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from cloister_gateway.wire.items import Message

__all__ = ["Counted", "History", "Known", "Said", "upper_bound"]

_MESSAGE_OVERHEAD_TOKENS = 32
"""More than any chat template we know puts around one message."""


def upper_bound(messages: Sequence[Message]) -> int:
    """More tokens than the messages can have: byte-level and byte-fallback tokenizers make at most one a byte."""
    return sum(len(message["content"].encode()) + _MESSAGE_OVERHEAD_TOKENS for message in messages)


class Counted(NamedTuple):
    """A prompt of which it is known how many tokens it has.

    Attributes:
        first: The place of the first message of the history that was in it; of those before, the operator's were.
        end: The place behind the last.
        others: The system turn and the excerpts, where it had them.
        new: The messages of its turn, which come into the history afterwards.
        tokens: How many it had, in all.
    """

    first: int
    end: int
    others: tuple[Message, ...]
    new: tuple[Message, ...]
    tokens: int


@dataclass(slots=True)
class Known:
    """What is known of prompts for one model: the newest that was counted, and the newest that did not fit."""

    fitting: Counted | None = None
    too_long: Counted | None = None


@dataclass(slots=True, eq=False)
class Said:
    """Messages, oldest first. More can be added at their end; they are never changed.

    Attributes:
        messages: They.
        bounds: How many tokens the first ``n`` have at most, for each ``n`` from 0.
        starts: Where turns begin: with every message of the user that follows something else, so that an answer goes
            with its question.
        operators: Where the operator's messages are. (``developer`` is ``system`` by now.)
        known: What is known of prompts with them, by model.
    """

    messages: list[Message] = field(default_factory=list)
    bounds: list[int] = field(default_factory=lambda: [0])
    starts: list[int] = field(default_factory=list)
    operators: list[int] = field(default_factory=list)
    known: dict[str, Known] = field(default_factory=dict)

    def extend(self, messages: Iterable[Message]) -> None:
        """Adds messages at the end."""
        for message in messages:
            place = len(self.messages)
            if not place or (message["role"] == "user" and self.messages[-1]["role"] != "user"):
                self.starts.append(place)
            if message["role"] == "system":
                self.operators.append(place)
            self.bounds.append(self.bounds[-1] + upper_bound([message]))
            self.messages.append(message)


@dataclass(frozen=True, slots=True)
class History:
    """The first ``end`` of what was said: what stands before a turn."""

    said: Said
    end: int

    @classmethod
    def of(cls, messages: Iterable[Message]) -> Self:
        """A history that nobody goes on with."""
        said = Said()
        said.extend(messages)
        return cls(said, len(said.messages))

    @property
    def messages(self) -> list[Message]:
        """All of them."""
        return self.said.messages[: self.end]

    @property
    def turns(self) -> int:
        """How many turns it has."""
        return bisect_left(self.said.starts, self.end)

    def first_of(self, turns: int) -> int:
        """The place of the first message of the last ``turns``."""
        return self.said.starts[self.turns - turns] if turns else self.end

    def operators_before(self, place: int) -> list[Message]:
        """The operator's messages before ``place``: nobody else may take them away."""
        operators = self.said.operators
        return [self.said.messages[operator] for operator in operators[: bisect_left(operators, place)]]

    def from_place(self, place: int) -> list[Message]:
        """The messages from ``place`` on."""
        return self.said.messages[place : self.end]

    def bound(self, place: int) -> int:
        """How many tokens the messages from ``place`` on have at most."""
        return max(0, self.said.bounds[self.end] - self.said.bounds[place])

    def known(self, model: str) -> Known:
        """What is known of prompts for ``model``."""
        return self.said.known.setdefault(model, Known())

    def at_most(
        self, known: Counted | None, first: int, others: Sequence[Message], new: Sequence[Message]
    ) -> int | None:
        """What ``known`` says: no more tokens than so many has a prompt of this history from ``first`` on.

        None if it says nothing, since that prompt began later.
        """
        if known is None or first < known.first:
            return None
        left, joined = _left(self, known)
        tokens = known.tokens + self.bound(max(first, joined)) + _MESSAGE_OVERHEAD_TOKENS
        return tokens + upper_bound(_without([*others, *new], left))

    def at_least(self, known: Counted | None, first: int, others: Sequence[Message], new: Sequence[Message]) -> int:
        """What ``known`` says: no fewer tokens than so many has a prompt of this history from ``first`` on."""
        if known is None or first > known.first or self.end < known.end:
            return 0
        left, _ = _left(self, known)
        return known.tokens - upper_bound(_without(left, [*others, *new]))


def _left(history: History, known: Counted) -> tuple[list[Message], int]:
    """What of a counted prompt is not in the history by now, and the place behind what is."""
    new, place = list(known.new), known.end
    while new and place < history.end and history.said.messages[place] == new[0]:
        del new[0]
        place += 1
    return [*known.others, *new], place


def _without(messages: Iterable[Message], others: Iterable[Message]) -> list[Message]:
    left = list(others)
    found = []
    for message in messages:
        if message in left:
            left.remove(message)
        else:
            found.append(message)
    return found
