"""Who was verified a moment ago, by the digest of what they sent: what makes a request cost a microsecond here."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from cloister_gateway.identity.principal import Principal

__all__ = ["CACHE_SECONDS", "VerifiedCache"]

CACHE_SECONDS = 1.5
"""Less than the two seconds within which a revocation must hold everywhere, even if the word of it is lost."""

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class _Verified:
    principal: Principal
    until: float


class VerifiedCache:
    """Remembers who a token proved for `CACHE_SECONDS`. The token itself is not kept."""

    def __init__(self) -> None:
        self._verified: dict[bytes, _Verified] = {}

    @staticmethod
    def fingerprint(token: str) -> bytes:
        """What stands for ``token`` in here."""
        return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()

    def get(self, fingerprint: bytes) -> Principal | None:
        """Whom the token proved, if that was a moment ago."""
        found = self._verified.get(fingerprint)
        return found.principal if found is not None and found.until >= time.monotonic() else None

    def put(self, fingerprint: bytes, principal: Principal) -> None:
        """Notes whom the token proved just now."""
        if len(self._verified) >= _MOST:
            now = time.monotonic()
            self._verified = {name: entry for name, entry in self._verified.items() if entry.until >= now}
            if len(self._verified) >= _MOST:
                self._verified.clear()
        self._verified[fingerprint] = _Verified(principal, time.monotonic() + CACHE_SECONDS)

    def forget(self, gone: Callable[[Principal], bool]) -> None:
        """Forgets those of whom ``gone`` says so."""
        self._verified = {name: entry for name, entry in self._verified.items() if not gone(entry.principal)}

    def clear(self) -> None:
        """Forgets everyone."""
        self._verified.clear()
