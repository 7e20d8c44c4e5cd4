"""What a passage supports, and what only sounds like it."""

from typing import NamedTuple

__all__ = ["Topic"]


class Topic(NamedTuple):
    """One passage.

    Attributes:
        filename: Of its file.
        text: Its text.
        true: Sentences that it supports, mostly in other words.
        false: Sentences of which one thing is not so: a number, a unit, a code, a name, a date, a negation, or what
            belongs to what.
    """

    filename: str
    text: str
    true: tuple[str, ...]
    false: tuple[str, ...]
