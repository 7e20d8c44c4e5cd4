"""The requests of this gateway that wait until one model is awake, and where each of them stands."""

import asyncio
from collections.abc import Callable

from cloister_gateway.models.waking.records import Phase, Standing

__all__ = ["Line"]


class Line:
    """One model's, from the first request that waits for it until it is awake.

    Attributes:
        phase: How far the model is; None is not known yet.
        fault: Why more is not known of it, or not done for it.
        moved: Whether this gateway has woken it.
        see_to_at: When to look next whether it must be woken (monotonic seconds).
        awake: Whether it answers now.
        lost: Whether the places of this gateway were given up, since it had stood still.
        over: Whether nobody keeps this line any more.
    """

    def __init__(self) -> None:
        self.phase: Phase | None = None
        self.fault: str | None = None
        self.moved = False
        self.see_to_at = 0.0
        self.awake = False
        self.lost = False
        self.over = False
        self._noted = False
        self._held: dict[str, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held)

    def join(self, request: str, position: int) -> None:
        """Takes a request in."""
        self._held[request] = position

    def leave(self, request: str) -> None:
        """Lets it go."""
        self._held.pop(request, None)

    def note(self, phase: Phase | None, positions: dict[str, int]) -> None:
        """Tells all how far the model is, and their places."""
        self.phase, self._noted = phase, True
        self._held = {request: positions.get(request, position) for request, position in self._held.items()}
        self._tell()

    def end(self, *, awake: bool) -> None:
        """Lets all go on, or join another line."""
        self.awake, self.over = awake, True
        self._tell()

    def standing(self, request: str) -> Standing:
        """Where ``request`` stands."""
        return Standing(self._held[request], self.phase)

    async def until_over(self, request: str, told: Callable[[Standing], None]) -> None:
        """Waits until this line is over, and tells where ``request`` stands whenever that has changed."""
        standing: Standing | None = None
        while True:
            if self._noted and standing != self.standing(request):
                standing = self.standing(request)
                told(standing)
            if self.over:
                return
            await self._changed.wait()

    def _tell(self) -> None:
        # Who waits is woken by the old one, and waits for the new one next.
        self._changed.set()
        self._changed = asyncio.Event()
