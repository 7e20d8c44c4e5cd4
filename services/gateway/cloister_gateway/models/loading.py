"""A question to a model of which no pod is ready waits for one, for a while and with so many others.

A pod that loads, is replaced or was just begun cannot be told from one that will never come: both are away. So nobody
waits longer than a deadline, and what they are told then says what was there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from prometheus_client import Gauge

from cloister_gateway.models.pods import Attempts
from cloister_gateway.models.waking.records import Phase, Standing, Told

__all__ = ["Loading"]

log = get_logger(__name__)
_WAITING = Gauge("cloister_llm_loading_waits", "Requests that wait for a model of which no pod is ready.", ["model"])

_EVERY_SECONDS = 0.5
_RETRY_SECONDS = 10


@dataclass(eq=False, slots=True)
class _Look:
    """What one look at a model's pods has shown: those that wait share it.

    Attributes:
        at: When it was (monotonic seconds).
        answers: Of each pod the status of its health, or None where it does not answer.
        lock: Held by who looks.
    """

    at: float = 0.0
    answers: Sequence[int | None] = ()
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Loading:
    """Holds requests back until their model is ready.

    Args:
        healths: Gives, of each pod of a model, the status of its health, or None.
        seconds: How long a request waits at most, in all.
        most: How many may wait.
    """

    def __init__(self, healths: Callable[[str], Awaitable[Sequence[int | None]]], *, seconds: float, most: int) -> None:
        self._healths = healths
        self._seconds = seconds
        self._most = most
        self._waiting = 0
        self._looks: dict[str, _Look] = {}

    async def wait(self, model: str, attempts: Attempts, told: Told | None = None) -> bool:
        """Waits until a pod of ``model`` is ready; says whether none was when it was asked.

        Args:
            model: The public name.
            attempts: Of the request: it waits no longer than its deadline, over all calls made for it.
            told: Learns where it stands, among all that wait so at this gateway; and that it goes on.

        Raises:
            Unavailable: Too many wait, or none was ready in time. It is of no use to try again at once.
        """
        if self._seconds == 0 or attempts.over or await self._is_ready(model):
            return False
        if self._waiting >= self._most:
            attempts.over = True
            raise Unavailable(
                f"No pod of the model '{model}' is ready, and {self._waiting} requests wait for one. Try again later.",
                code="model_not_ready",
                retry_after=_RETRY_SECONDS,
            )
        attempts.wait_until = attempts.wait_until or time.monotonic() + self._seconds
        self._waiting += 1
        _WAITING.labels(model).inc()
        if told is not None:
            told(Standing(self._waiting, _phase(self._looks[model].answers)))
        try:
            while not await self._is_ready(model):
                if time.monotonic() >= attempts.wait_until:
                    attempts.over = True
                    raise self._not_ready(model)
                await asyncio.sleep(_EVERY_SECONDS)
        finally:
            self._waiting -= 1
            _WAITING.labels(model).dec()
        if told is not None:
            told(None)
        return True

    async def _is_ready(self, model: str) -> bool:
        look = self._looks.setdefault(model, _Look())
        async with look.lock:
            if time.monotonic() - look.at >= _EVERY_SECONDS:
                look.answers = await self._healths(model)
                look.at = time.monotonic()
        return 200 in look.answers

    def _not_ready(self, model: str) -> Unavailable:
        """What was reached by the deadline."""
        answers = self._looks[model].answers
        answering = sum(status is not None for status in answers)
        if not answers:
            reached = "no pod of it is known to be there"
        elif not answering:
            reached = f"none of its {len(answers)} pods accepts connections"
        else:
            reached = f"{answering} of its {len(answers)} pods answer, and say that they are not ready"
        log.warning("model_not_ready", model=model, pods=len(answers), answering=answering)
        return Unavailable(
            f"The model '{model}' was not ready within {self._seconds:g} s: {reached}. Try again later; the operator's "
            "log says more.",
            code="model_not_ready",
            retry_after=_RETRY_SECONDS,
        )


def _phase(answers: Sequence[int | None]) -> Phase | None:
    """How far a model is whose pods answered so. One that does not answer says nothing of why."""
    return "loading" if any(status is not None for status in answers) else None
