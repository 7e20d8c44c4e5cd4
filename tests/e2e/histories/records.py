"""What clients note of what they did and saw: a history, which `tests.e2e.histories.checks` judges."""

import time
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["ENDS", "Attempt", "Event", "History", "Items", "Snapshot", "Stream", "Turn"]

Event = dict[str, Any]
Outcome = Literal["acknowledged", "refused", "unknown"]

ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""The last event of a response is one of these."""


@dataclass(eq=False)
class Stream:
    """Events of a response as one reader saw them.

    Attributes:
        after: The number after which it asked for them.
        events: What it saw, parsed.
        how: By what and where, for messages.
        clean: Whether the gateway ended it in order; False where the connection broke, or the reader left.
        error: What the gateway said instead of an end.
    """

    after: int
    how: str
    events: list[Event] = field(default_factory=list)
    clean: bool = False
    error: Event | None = None


@dataclass(eq=False)
class Attempt:
    """One request for a turn.

    Attributes:
        how: By what and where, for messages.
        begun: When it was sent, in monotonic seconds.
        outcome: ``refused`` where the gateway said, in words, that it did not take it, or was not there.
        acknowledged: When the response was first heard of.
        response_id: The response, once it was acknowledged.
        said: The refusal, or what came in between.
    """

    how: str
    begun: float
    outcome: Outcome = "unknown"
    acknowledged: float | None = None
    response_id: str = ""
    said: str = ""

    def heard(self, response_id: str) -> None:
        """Notes that the turn was acknowledged."""
        self.outcome, self.acknowledged, self.response_id = "acknowledged", time.monotonic(), response_id


@dataclass(eq=False)
class Turn:
    """One question, asked once, or several times under one idempotency key.

    Attributes:
        text: The question; no other has it.
        key: The idempotency key.
        conversation: Where; empty outside of conversations.
        previous: The response that it follows, outside of a conversation.
        attempts: How it was asked.
    """

    text: str
    key: str | None
    conversation: str
    previous: str = ""
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def response_ids(self) -> set[str]:
        """The responses that were acknowledged for it."""
        return {attempt.response_id for attempt in self.attempts if attempt.response_id}

    @property
    def acknowledged(self) -> float | None:
        """When it was first acknowledged."""
        return min((each.acknowledged for each in self.attempts if each.acknowledged), default=None)

    @property
    def refused(self) -> bool:
        """Whether it cannot have been taken."""
        return all(attempt.outcome == "refused" for attempt in self.attempts)


@dataclass(frozen=True)
class Items:
    """A read of a conversation: all of its items in order, or the last ``limit``."""

    how: str
    begun: float
    ended: float
    items: list[Event]
    limit: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """A read of a response."""

    how: str
    begun: float
    response: Event


@dataclass(eq=False)
class History:
    """One conversation, the turns around it, and all that its clients did and saw.

    Attributes:
        name: Begins each of its questions.
        key: The API key of its tenant.
        conversation: Its conversation.
        turns, streams, items, snapshots: What happened; streams and snapshots by response.
        wrong: What was wrong at once, without a look at the end.
    """

    name: str
    key: str
    conversation: str
    turns: list[Turn] = field(default_factory=list)
    streams: dict[str, list[Stream]] = field(default_factory=dict)
    items: list[Items] = field(default_factory=list)
    snapshots: dict[str, list[Snapshot]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def known(self) -> list[str]:
        """The responses that somebody has heard of."""
        return list(dict.fromkeys(each for turn in self.turns for each in sorted(turn.response_ids)))
