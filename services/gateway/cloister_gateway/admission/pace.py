"""How fast those who wait are served, and so when it makes sense to come back."""

import math

__all__ = ["Flow", "Pace"]

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

    def retry_after(self, ahead: float, places: int) -> int:
        """Whole seconds after which the next who is refused should come back.

        Those who were told so before it come first: a thousand who all come back at once would be refused again.
        """
        self._told += 1.0
        seconds = (ahead + self._told) / self.rate(places)
        return max(1, min(_LONGEST_RETRY_SECONDS, math.ceil(seconds)))


_FLOW_SECONDS = 10.0
_LEAST_MEASURED_SECONDS = 1.0


class Flow:
    """How much leaves a queue in a second, measured over the time in which somebody waited.

    Args:
        now: The time (monotonic seconds).

    Attributes:
        at: When it was told last.
    """

    def __init__(self, now: float) -> None:
        self.at = now
        self._amount = 0.0
        self._seconds = 0.0
        self._told = 0.0

    def pass_time(self, now: float, *, queued: bool, guess: float) -> None:
        """It is ``now``; since it was told last somebody waited, or nobody did. ``guess`` as for `rate`."""
        seconds, self.at = now - self.at, now
        if queued:
            kept = math.exp(-seconds / _FLOW_SECONDS)
            self._amount *= kept
            self._seconds = self._seconds * kept + seconds
        self._told = max(0.0, self._told - seconds * self.rate(guess))

    def left(self, amount: float) -> None:
        """So much has left the queue."""
        self._amount += amount

    def rate(self, guess: float) -> float:
        """How much leaves in a second; ``guess`` until there was a queue for long enough."""
        measured = self._amount / self._seconds if self._seconds >= _LEAST_MEASURED_SECONDS else 0.0
        return measured or guess

    def retry_after(self, ahead: float, amount: float, guess: float) -> int:
        """Whole seconds after which the next who is refused should come back, with so much ``ahead`` of it.

        As `Pace.retry_after`: those who were told so before it come first.
        """
        self._told += amount
        seconds = (ahead + self._told) / max(self.rate(guess), 0.001)
        return max(1, min(_LONGEST_RETRY_SECONDS, math.ceil(seconds)))
