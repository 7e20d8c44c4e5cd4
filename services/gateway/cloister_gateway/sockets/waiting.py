"""The memory of turns that wait in sockets: for an earlier turn of their lane to end, for a place, or to be stored.

In a lane they are kept as the bytes they came in, which is the least they can be. They count as those bytes until they
are stored, and each tenant may have so many on a gateway.
"""

from collections import Counter

from cloister_common.errors import TooManyRequests

__all__ = ["WaitingBytes"]


class WaitingBytes:
    """The sizes of all waiting turns, by tenant.

    Args:
        most: Bytes that one tenant's may have together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: Counter[str] = Counter()

    def add(self, tenant: str, size: int) -> None:
        """One more turn waits. Raises `TooManyRequests` where it does not fit beside others; one alone always does."""
        if self._waiting[tenant] and self._waiting[tenant] + size > self._most:
            raise TooManyRequests(
                f"The turns of your project that wait on connections would be over {self._most} bytes. "
                "Wait for one to end."
            )
        self._waiting[tenant] += size

    def remove(self, tenant: str, size: int) -> None:
        """Turns of this size wait no longer."""
        self._waiting[tenant] -= size
        if not self._waiting[tenant]:
            del self._waiting[tenant]

    def of(self, tenant: str) -> int:
        """Bytes that wait."""
        return self._waiting[tenant]
