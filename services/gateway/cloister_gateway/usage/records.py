"""What is kept of a generation's use: a row, and sums of rows. Never content."""

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple, Self

from cloister_gateway.usage.metering import Ending, InputSplit, Kind

__all__ = ["BATCH", "FAMILIES", "KINDS", "Family", "Numbers", "Row", "Sum", "Times", "Whom", "families_of"]

KINDS: tuple[Kind, ...] = ("response", "chat", "completions", "embeddings", "rerank", "ingestion", "summary")

Family = Literal["g", "e", "i"]
FAMILIES: Mapping[Kind, Family] = {
    "response": "g",
    "chat": "g",
    "completions": "g",
    "embeddings": "e",
    "rerank": "e",
    "ingestion": "i",
    "summary": "g",
}
"""Kinds that are always told together, as OpenAI's routes do: sums by day have them so."""

BATCH = "+"
"""What stands behind a kind, or a family, in the names of sums of batches' lines."""


class Whom(NamedTuple):
    """Whom a generation was for, within its project."""

    user: str
    key_id: str
    model: str


class Sum(NamedTuple):
    """What generations used together, in tokens.

    Attributes:
        requests: How many they are.
        read: Tokens of their prompts.
        cached: Of those, found in the model's cache.
        written: Tokens of their answers.
        reasoning: Of those, thought.
        parted: Of the requests, those whose prompts are told apart by parts.
        system, history, retrieved, tools, new: Tokens of these parts.
    """

    requests: int = 0
    read: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0
    parted: int = 0
    system: int = 0
    history: int = 0
    retrieved: int = 0
    tools: int = 0
    new: int = 0

    def plus(self, other: "Sum") -> "Sum":
        """Both together."""
        return Sum(*(mine + its for mine, its in zip(self, other, strict=True)))

    @property
    def split(self) -> InputSplit | None:
        """By parts, where that is known."""
        return InputSplit(*self[6:]) if self.parted else None

    @classmethod
    def of_one(cls, read: int, cached: int, written: int, reasoning: int, split: InputSplit | None = None) -> Self:
        """Of one generation."""
        return cls(1, read, cached, written, reasoning, *((0,) if split is None else (1, *split)))

    @classmethod
    def of(cls, stored: bytes) -> Self:
        """What the script of `cloister_gateway.usage.store` wrote. (The version before wrote five numbers; what a later
        one writes behind these is not for this one.)"""
        return cls(*(int(number) for number in stored.split(b",")[: len(cls._fields)]))


Numbers = tuple[int, ...]
"""The first five of a `Sum`, or all. Where there are tens of thousands, a plain tuple costs a tenth of a `Sum`, since
the collector of garbage need not look at it."""


class Times(NamedTuple):
    """How long it took, in seconds from when it was reserved; None where nobody knows.

    Attributes:
        queued: Until a pod was asked: it waited for a place, for its model, or for what was searched.
        first: Until its first token came; None too of what is answered as a whole.
        whole: Until its end; None where it began at a gateway that did not end it.
    """

    queued: float | None = None
    first: float | None = None
    whole: float | None = None


class Row(NamedTuple):
    """One generation.

    Attributes:
        id: Of the generation.
        project: Whose it is.
        whom: Whom it was for.
        kind: Of the call.
        adapter: The version of the adapter that answered, as its pods call it; None is the model itself.
        begun: When (Unix seconds).
        times: How long it took.
        used: What it used, its prompt by parts included.
        exact: Whether the model itself counted.
        ending: How it ended.
        batch: Whether it was a line of a batch.
    """

    id: str
    project: str
    whom: Whom
    kind: Kind
    adapter: str | None
    begun: int
    times: Times
    used: Sum
    exact: bool
    ending: Ending
    batch: bool = False


def families_of(kinds: Collection[Kind]) -> set[Family] | None:
    """The families that are these kinds; None where they are others."""
    found = {FAMILIES[kind] for kind in kinds}
    return found if {kind for kind, family in FAMILIES.items() if family in found} == set(kinds) else None
