"""What is done for a caller ends when its credential ends: revoked, expired, or its project archived.

A credential is judged once, before the body. `Validity` goes on from there: it stands around a whole request (in the
guard), of a socket too, costs no task, and interrupts it wherever it waits: for the body, for a turn of its own, for
another service, for the reader. It is a deadline, that of the credential, which a revocation moves to now.

An interruption is a cancellation, once, so that ``finally`` may wait. What is written in several steps is one of two:
short, and not interrupted (`Validity.let_end`); or begun so that anyone can go on with it or clear it away, since a
gateway may die at any moment (runs, deletions of responses).
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType

from cloister_common.errors import Unauthenticated

__all__ = ["Validity"]


class Validity:
    """Interrupts its block with `Unauthenticated` as soon as the credential has ended.

    Args:
        expires_at: When the credential ends by itself (Unix seconds), if it does.
        watch: Has a function called when it is revoked; gives what undoes that. See `Revocations.watch`.
    """

    __slots__ = ("_expires_at", "_limit", "_revoked", "_unwatch", "_watch")

    def __init__(self, expires_at: int | None, watch: Callable[[Callable[[], None]], Callable[[], None]]) -> None:
        self._expires_at = expires_at
        self._watch = watch
        self._revoked = False

    def let_end(self) -> None:
        """From here on the block is not interrupted: what is left is a few commands to the store, and the answer."""
        self._unwatch()
        self._move(None)

    async def __aenter__(self) -> "Validity":
        now = asyncio.get_running_loop().time()
        deadline = None if self._expires_at is None else now + self._expires_at - time.time()
        self._limit = await asyncio.timeout_at(deadline).__aenter__()
        self._unwatch = self._watch(self._end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._unwatch()
        try:
            await self._limit.__aexit__(kind, error, traceback)
        except TimeoutError:
            # Not asked of the clock: the loop counts by another one, and may be there a moment earlier.
            if not self._revoked:
                raise Unauthenticated("The API key has expired. Ask for a new one.", code="expired_api_key") from None
            raise Unauthenticated("The API key was revoked, or its project archived, while it was served.") from None

    def _end(self) -> None:
        self._revoked = not self._limit.expired()
        self._move(asyncio.get_running_loop().time())

    def _move(self, when: float | None) -> None:
        if not self._limit.expired():
            self._limit.reschedule(when)
