"""Time that stands until it is told, for tests of what models have under way."""

__all__ = ["Clock"]


class Clock:
    """The time that `time.monotonic` tells."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
