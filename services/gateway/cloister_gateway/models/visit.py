"""One request's visit at its model's pods: its turn is waited for, taken, and given back however the request ends."""

from types import TracebackType
from typing import Self

from cloister_gateway.models.estimates import usage_in
from cloister_gateway.models.flight import ModelFlight
from cloister_gateway.models.holds import Hold
from cloister_gateway.models.pods import Attempts
from cloister_gateway.models.requests import PodRequest
from cloister_gateway.models.waking.records import Told
from cloister_gateway.models.work import WorkClass

__all__ = ["Visit"]

_LONGEST_FACTOR = 2.0
"""A wait that takes so many times what a request may be expected to wait has gone wrong."""


class Visit:
    """``async with`` around the call of a pod.

    Args:
        flight: Of the model.
        tenant: Whose request it is.
        work: Its class.
        attempts: Of the request: one that had its turn goes on without another.
        waiting: Told where it stands while it waits, and that it goes on.
        accepted: Whether it was promised to its caller.
    """

    def __init__(
        self,
        flight: ModelFlight,
        tenant: str,
        work: WorkClass,
        attempts: Attempts,
        waiting: Told | None = None,
        *,
        accepted: bool = False,
    ) -> None:
        self._flight = flight
        self._tenant = tenant
        self._work = work
        self._attempts = attempts
        self._waiting = waiting
        self._accepted = accepted
        self._hold: Hold | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.give_back()

    async def come(self, request: PodRequest) -> PodRequest:
        """``request`` with its priority, once its turn has come.

        Raises:
            Overloaded: There is too much before it.
        """
        flight, accepted = self._flight, self._accepted
        tokens = flight.estimates.tokens(request.size, request.answer)
        if self._attempts.begun:
            self._hold = hold = flight.go_on(self._tenant, self._work, tokens)
        else:
            self._hold = hold = flight.ask(self._tenant, self._work, tokens, accepted=accepted)
            if hold.waits:
                forever = accepted or self._work is not WorkClass.INTERACTIVE
                longest = None if forever else flight.longest_wait * _LONGEST_FACTOR
                await flight.wait(hold, longest=longest, told=self._waiting)
            self._attempts.begun = self._accepted = True
        return request.with_priority(hold.priority)

    def give_back(self) -> None:
        """It is over, or not to be. Twice is no error."""
        if self._hold is not None:
            self._hold.give_back()
            self._hold = None

    def learn(self, request: PodRequest, end: bytes) -> None:
        """What the ``end`` of its answer says that it came to."""
        used = usage_in(end)
        if used is not None:
            self._flight.estimates.learn(request.size, *used)
