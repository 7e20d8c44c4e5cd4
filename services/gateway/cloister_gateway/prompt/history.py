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

from cloister_gateway.wire.items import SUMMARY, Message, images_of, speaks, text_of

__all__ = [
    "IMAGE_TOKENS",
    "MESSAGE_OVERHEAD_TOKENS",
    "Call",
    "Counted",
    "History",
    "ImageRoom",
    "Known",
    "Said",
    "Summary",
    "upper_bound",
]

MESSAGE_OVERHEAD_TOKENS = 32
"""More than any chat template we know puts around one message."""


_ARGUMENT_OVERHEAD_TOKENS = 64
"""More than any puts around one argument of a call: some have an XML tag for each."""


IMAGE_TOKENS = 32_768
"""More than any model we know makes of one image of 4,096 pixels a side. A pod counts what it really takes."""


def upper_bound(messages: Sequence[Message]) -> int:
    """More tokens than the messages can have: byte-level and byte-fallback tokenizers make at most one a byte."""
    return sum(
        _as_written(message) + MESSAGE_OVERHEAD_TOKENS
        if message["role"] != "tool" and "tool_calls" not in message
        else _written_anew(message)
        for message in messages
    )


def _as_written(message: Message) -> int:
    content = message.get("content") or message.get("reasoning", "")
    if isinstance(content, str):
        return len(content.encode())
    return len(text_of(message).encode()) + IMAGE_TOKENS * len(images_of(message))


def _written_anew(message: Message) -> int:
    """The same of a call, or of what it returned: chat templates write these as JSON of their own, at its longest with
    escapes for all but ASCII, and with indents; pods without one let no tag end in it (``<\\/``)."""
    content = json.dumps(text_of(message))
    size = len(content) + content.count("</") + MESSAGE_OVERHEAD_TOKENS + IMAGE_TOKENS * len(images_of(message))
    for call in message.get("tool_calls", ()):
        arguments = json.loads(call["function"]["arguments"])
        size += len(json.dumps([call, arguments], indent=4)) + _ARGUMENT_OVERHEAD_TOKENS * (1 + len(arguments))
    return size


class ImageRoom(NamedTuple):
    """How many images a prompt may have.

    Attributes:
        images: By number, as the model's pods take them.
        characters: Of all their data URLs together: what a pod takes as one request.
    """

    images: int
    characters: int

    def less(self, messages: Iterable[Message]) -> "ImageRoom":
        """What is left beside those of ``messages``; negative where they are too many."""
        sizes = [len(url) for message in messages for url in images_of(message)]
        return ImageRoom(self.images - len(sizes), self.characters - sum(sizes))

    @property
    def holds(self) -> bool:
        """Whether it was enough."""
        return self.images >= 0 and self.characters >= 0


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


class Summary(NamedTuple):
    """What stands for the beginning of what was said.

    Attributes:
        place: Where it is among the messages.
        cut: Where what it does not stand for begins: a turn.
        text: What it says.
        turns: How many turns it stands for, those of a summary before it included.
    """

    place: int
    cut: int
    text: str
    turns: int


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
        thoughts: Where there is only what the assistant thought, or a summary.
        summaries: These, in order.
        seen: Where the user or a function shows images.
        known: What is known of prompts with them, by model.
    """

    messages: list[Message] = field(default_factory=list)
    bounds: list[int] = field(default_factory=lambda: [0])
    starts: list[int] = field(default_factory=list)
    operators: list[int] = field(default_factory=list)
    calls: dict[str, Call] = field(default_factory=dict)
    thoughts: list[int] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
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
            after_all = bool(self.summaries) and self.summaries[-1].cut == place
            if not place or after_all or (begins and not self._open):
                self.starts.append(place)
            if message["role"] == "system":
                self.operators.append(place)
            if isinstance(message.get("content"), list):
                self.seen.append(place)
            if message["role"] == SUMMARY:
                begun = self.starts[: bisect_right(self.starts, max(0, place - message["keeps"]))]
                cut = begun[-1] if begun and message["keeps"] else place + 1
                self.summaries.append(Summary(place, cut, message["summary"], message["turns"]))
            spoken = speaks(message)
            if not spoken:
                self.thoughts.append(place)
            # (A thought that stands in the history is not sent, or with the new messages.)
            self.bounds.append(self.bounds[-1] + (upper_bound([message]) if spoken else 0))
            self.messages.append(message)


@dataclass(frozen=True, slots=True)
class History:
    """The first ``end`` of what was said: what stands before a turn.

    Attributes:
        said: All of it, and maybe more.
        end: The place behind its last message.
        heard: The place before which a summary stands that counts; ``end`` if None.
    """

    said: Said
    end: int
    heard: int | None = None

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
        return self.until(first), self.from_place(first)

    def until(self, place: int) -> "History":
        """What of it is before ``place``. A summary that stands later counts all the same."""
        return History(self.said, place, self.end if self.heard is None else self.heard)

    def summed_up(self, message: Message) -> "History":
        """The history with a summary of it behind it. (It is copied: nobody else goes on with that.)"""
        return History.of([*self.messages, message])

    @property
    def summary(self) -> Summary | None:
        """The newest summary in it."""
        heard = self.end if self.heard is None else self.heard
        place = bisect_left(self.said.summaries, heard, key=lambda summary: summary.place)
        return self.said.summaries[place - 1] if place else None

    @property
    def floor(self) -> int:
        """The place of the first message that is not summed up."""
        summary = self.summary
        return 0 if summary is None else min(summary.cut, self.end)

    @property
    def turns(self) -> int:
        """How many turns it has that are not summed up."""
        starts = self.said.starts
        floor = bisect_left(starts, self.floor) if self.said.summaries else 0
        return bisect_left(starts, self.end) - floor

    def first_of(self, turns: int) -> int:
        """The place of the first message of the last ``turns``."""
        return self.said.starts[bisect_left(self.said.starts, self.end) - turns] if turns else self.end

    def seen_from(self, place: int) -> list[Message]:
        """The messages with images from ``place`` on, oldest first."""
        seen = self.said.seen
        return [self.said.messages[one] for one in seen[bisect_left(seen, place) : bisect_left(seen, self.end)]]

    @property
    def image_characters(self) -> int:
        """How many characters its images have, as data URLs."""
        return sum(len(url) for message in self.seen_from(0) for url in images_of(message))

    def turns_within(self, room: ImageRoom) -> int:
        """How many of the last turns have no more images than there is ``room`` for."""
        seen, starts = self.said.seen, self.said.starts
        ends = bisect_left(starts, self.end)
        for place in reversed(seen[bisect_left(seen, self.floor) : bisect_left(seen, self.end)]):
            room = room.less([self.said.messages[place]])
            if not room.holds:
                return ends - bisect_right(starts, place, hi=ends)
        return self.turns

    def count_before(self, place: int) -> int:
        """How many messages before ``place`` only stay in a prompt that has the history from there on if it has all:
        neither the operator's nor thoughts."""
        return place - bisect_left(self.said.operators, place) - bisect_left(self.said.thoughts, place)

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
        tokens = known.tokens + self.bound(max(first, joined)) + MESSAGE_OVERHEAD_TOKENS
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
