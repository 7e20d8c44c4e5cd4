"""How long places take to become free, and so when it makes sense to come back."""

import math

__all__ = ["Pace"]

_FIRST_SECONDS = 20.0
"""An answer of 400 tokens at 20 a second, until generations of this process have shown how long they take."""
_NEW = 0.05
_RECENT_SECONDS = 3.0
_LONGEST_RETRY_SECONDS = 60


class Pace:
    """The rate at which those who wait are served.

    It is the higher of what was seen in the last seconds and of what Little's law says (places divided by how long one
    is held), which knows about the time before the first place became free.
    """

    def __init__(self) -> None:
        self._held_seconds = _FIRST_SECONDS
        self._recent = 0.0
        self._told = 0.0

    def held(self, seconds: float) -> None:
        """A generation has ended that took so long."""
        self._held_seconds += _NEW * (seconds - self._held_seconds)

    def served(self) -> None:
        """One that waited got its place."""
        self._recent += 1.0

    def pass_time(self, seconds: float, places: int) -> None:
        """So much time has passed with so many places."""
        self._told = max(0.0, self._told - seconds * self.rate(places))
        self._recent *= math.exp(-seconds / _RECENT_SECONDS)

    def rate(self, places: int) -> float:
        """How many are served in a second."""
        return max(places / max(self._held_seconds, 0.001), self._recent / _RECENT_SECONDS)

    def retry_after(self, ahead: int, places: int) -> int:
        """Whole seconds after which the next who is refused should come back.

        Those who were told so before it come first: a thousand who all come back at once would be refused again.
        """
        self._told += 1.0
        seconds = (ahead + self._told) / self.rate(places)
        return max(1, min(_LONGEST_RETRY_SECONDS, math.ceil(seconds)))
