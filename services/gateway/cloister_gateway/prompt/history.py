"""What was said before a turn, and what a prompt needs to know of it: where turns begin, and how long they are.

A thousand messages are looked at once, when they are added, and not with every turn again. That is also where it is
noted how many tokens a prompt had that was sent: the next one is mostly the same with a little more, so whether it
fits is known without asking the model's tokenizer.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

from cloister_gateway.wire.items import Message, speaks

__all__ = ["Call", "Counted", "History", "Known", "Said", "upper_bound"]

_MESSAGE_OVERHEAD_TOKENS = 32
"""More than any chat template we know puts around one message."""


_ARGUMENT_OVERHEAD_TOKENS = 64
"""More than any puts around one argument of a call: some have an XML tag for each."""


def upper_bound(messages: Sequence[Message]) -> int:
    """More tokens than the messages can have: byte-level and byte-fallback tokenizers make at most one a byte."""
    return sum(
        len((message.get("content") or message.get("reasoning", "")).encode()) + _MESSAGE_OVERHEAD_TOKENS
        if message["role"] != "tool" and "tool_calls" not in message
        else _written_anew(message)
        for message in messages
    )


def _written_anew(message: Message) -> int:
    """The same of a call, or of what it returned: chat templates write these as JSON of their own, at its longest with
    escapes for all but ASCII, and with indents; pods without one let no tag end in it (``<\\/``)."""
    content = json.dumps(message.get("content", ""))
    size = len(content) + content.count("</") + _MESSAGE_OVERHEAD_TOKENS
    for call in message.get("tool_calls", ()):
        arguments = json.loads(call["function"]["arguments"])
        size += len(json.dumps([call, arguments], indent=4)) + _ARGUMENT_OVERHEAD_TOKENS * (1 + len(arguments))
    return size


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


@dataclass(slots=True)
class Call:
    """A call of a function.

    Attributes:
        place: Where it is among the messages.
        by_model: Whether the model made it here; else a caller says that it was made.
        answered: Where what it returned is; None if it is not there.
    """

    place: int
    by_model: bool
    answered: int | None = None


@dataclass(slots=True, eq=False)
class Said:
    """Messages, oldest first. More can be added at their end; they are never changed.

    A call and what it returned belong together: what was returned by a call that is not there, since its item was
    deleted, is not taken, nor a second time.

    Attributes:
        messages: They.
        bounds: How many tokens the first ``n`` have at most, for each ``n`` from 0.
        starts: Where turns begin: with every message of the user that follows something else, so that an answer goes
            with its question; but not between a call and what it returned.
        operators: Where the operator's messages are. (``developer`` is ``system`` by now.)
        calls: The calls of functions, by their ids.
        thoughts: Where there is only what the assistant thought.
        known: What is known of prompts with them, by model.
    """

    messages: list[Message] = field(default_factory=list)
    bounds: list[int] = field(default_factory=lambda: [0])
    starts: list[int] = field(default_factory=list)
    operators: list[int] = field(default_factory=list)
    calls: dict[str, Call] = field(default_factory=dict)
    thoughts: list[int] = field(default_factory=list)
    known: dict[str, Known] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)

    def extend(self, messages: Iterable[Message]) -> None:
        """Adds messages at the end."""
        for message in messages:
            place = len(self.messages)
            if message["role"] == "tool":
                call_id = message["tool_call_id"]
                if call_id not in self._open:
                    continue
                self._open.remove(call_id)
                self.calls[call_id].answered = place
            for call in message.get("tool_calls", ()):
                self._open.add(call["id"])
                self.calls[call["id"]] = Call(place, message["by_model"])
            begins = message["role"] == "user" and self.messages[-1:] and self.messages[-1]["role"] != "user"
            if not place or (begins and not self._open):
                self.starts.append(place)
            if message["role"] == "system":
                self.operators.append(place)
            spoken = speaks(message)
            if not spoken:
                self.thoughts.append(place)
            # (A thought that stands in the history is not sent, or with the new messages.)
            self.bounds.append(self.bounds[-1] + (upper_bound([message]) if spoken else 0))
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

    def with_added(self, messages: Iterable[Message]) -> "History":
        """The history with more at its end. Of two that go on from one, the second gets a copy."""
        said = self.said
        if self.end < len(said.messages):
            said = Said()
            said.extend(self.messages)
        said.extend(messages)
        return History(said, len(said.messages))

    @property
    def messages(self) -> list[Message]:
        """All of them."""
        return self.said.messages[: self.end]

    def call(self, call_id: str) -> Call | None:
        """The call of that id, as it was then: what was returned later is not known of."""
        call = self.said.calls.get(call_id)
        if call is None or call.place >= self.end:
            return None
        return call if call.answered is None or call.answered < self.end else replace(call, answered=None)

    @property
    def open_calls(self) -> list[str]:
        """The ids of calls that have returned nothing yet, in order."""
        calls = self.said.calls
        return [
            call_id
            for call_id, call in calls.items()
            if call.place < self.end and (call.answered is None or call.answered >= self.end)
        ]

    def parted(self, call_ids: Iterable[str]) -> tuple["History", list[Message]]:
        """The history, parted where the turn begins in which the first of these calls was made: what is before, and the
        messages from there on, without which what the calls return cannot be sent."""
        places = [call.place for call_id in call_ids if (call := self.call(call_id)) is not None]
        if not places:
            return self, []
        first = self.said.starts[bisect_right(self.said.starts, min(places)) - 1]
        return History(self.said, first), self.from_place(first)

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
