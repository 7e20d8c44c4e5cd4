"""Who waits, tenant after tenant: each gets its first waiting place in turn, so that a crowd of one delays no other.

How many of one tenant may wait depends on how much of the queue is free (a dynamic threshold: Choudhury and Hahne,
"Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998): as many as are free. So a tenant alone
fills half of it, two a third each, and there is always room for the first of one that comes later; and nobody who
waits is ever sent away for the sake of another.
"""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Entries by tenant.

    Args:
        room: Most entries.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._size = 0
        # The tenant whose turn it is comes first.
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return self._size

    def fits(self, tenant: str) -> bool:
        """Whether one more of ``tenant`` may wait."""
        return len(self._waiting.get(tenant, ())) < self._room - self._size

    def ahead(self, tenant: str) -> int:
        """How many at most are served before one more of ``tenant``."""
        own = self._waiting.get(tenant)
        if own is None:
            return len(self._waiting)
        return min(self._size, len(self._waiting) * (len(own) + 1) - 1)

    def add(self, tenant: str, entry: T) -> None:
        """The last of ``tenant`` from now on."""
        self._waiting.setdefault(tenant, deque()).append(entry)
        self._size += 1

    def take(self) -> T:
        """The next entry, which waits no more. Raises `KeyError` where none does."""
        tenant, own = self._waiting.popitem(last=False)
        entry = own.popleft()
        self._size -= 1
        if own:
            self._waiting[tenant] = own
        return entry

    def remove(self, tenant: str, entry: T) -> None:
        """Takes out an entry that waits."""
        own = self._waiting[tenant]
        own.remove(entry)
        self._size -= 1
        if not own:
            del self._waiting[tenant]
