"""When a pod was asked for an answer, and when that began: what records of usage tell of it."""

from dataclasses import dataclass

__all__ = ["Served"]


@dataclass(slots=True)
class Served:
    """How one answer came. All of it may be said again, by who goes on with it elsewhere: the first time counts.

    Attributes:
        asked_at: When the pod that answered was asked (monotonic seconds); None where none was.
        first_at: When the first of its answer came; None too where it is answered as a whole.
        adapter: The version of the adapter that answers, as pods call it; None is the model itself.
    """

    asked_at: float | None = None
    first_at: float | None = None
    adapter: str | None = None
