"""What the connections of one port share: the limits, and who waits without a request."""

from collections.abc import Callable

from prometheus_client import Counter

from cloister_common.settings import ConnectionLimits

__all__ = ["REFUSED", "Door"]

REFUSED = Counter(
    "cloister_connections_refused_total", "Connections that were closed for passing one of server.limits.", ["reason"]
)


class Door:
    """One port's connections."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        # The longest waiting first; each with what cuts it.
        self._waiting: dict[object, Callable[[], None]] = {}

    def waits(self, connection: object, cut: Callable[[], None]) -> None:
        """``connection`` waits for the head of a request from now on; ``cut`` ends it."""
        self._waiting[connection] = cut

    def waits_no_more(self, connection: object) -> None:
        """``connection`` has a request, or is gone."""
        self._waiting.pop(connection, None)

    def make_room(self) -> bool:
        """Cuts the connection that has waited longest for a request. False where all of them have one."""
        if not self._waiting:
            return False
        REFUSED.labels("made_room").inc()
        self._waiting.pop(next(iter(self._waiting)))()
        return True
