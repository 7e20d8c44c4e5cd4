"""When something that failed for a conversation is tried again: not with each turn, and ever more rarely."""

import time
from typing import NamedTuple

from cloister_common.vault.cache import ShortCache

__all__ = ["Attempts"]

_FIRST_SECONDS = 30.0
_LONGEST_SECONDS = 3600.0
_MOST_KNOWN = 20_000


class _Failed(NamedTuple):
    times: int
    until: float


class Attempts:
    """What failed, by name. Each gateway knows of its own alone, so several may each try once."""

    def __init__(self) -> None:
        self._failed: ShortCache[_Failed] = ShortCache(seconds=2 * _LONGEST_SECONDS, most=_MOST_KNOWN)

    def may(self, name: str) -> bool:
        """Whether it may be tried now."""
        failed = self._failed.get(name)
        return failed is None or failed.until <= time.monotonic()

    def failed(self, name: str) -> None:
        """It failed: it rests for half a minute, and twice as long after each further failure, up to an hour."""
        before = self._failed.get(name)
        times = 0 if before is None else before.times
        rest = min(_FIRST_SECONDS * 2 ** min(times, 16), _LONGEST_SECONDS)
        self._failed.put(name, _Failed(times + 1, time.monotonic() + rest))

    def succeeded(self, name: str) -> None:
        """It worked."""
        self._failed.drop(name)
