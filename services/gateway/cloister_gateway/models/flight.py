"""What is under way at a model's pods, and who is next: as many tokens as the pods hold, in fair shares.

Pods queue what they are sent by the time at which it came, so a crowd that is let through to them is a crowd that
everybody waits behind. Therefore a gateway has no more under way at a model's pods than they hold (`Capacity`), in
tokens and in requests, and what is beyond that waits here: the more urgent class first, tenants of a class by their
shares (`cloister_gateway.admission.queue`). Whoever is next and does not fit is passed by those for whom room is left,
and by nobody else: what is small would go before what is large for ever. Four rules more:

- **Headroom.** The last sixteenth is for tenants that have less than that, so that somebody who comes new finds room
  while a crowd, or a batch, has all the rest; and for what is less urgent and served out of turn.
- **A crowd is held smaller while others come**: tenants who want more than they should have
  (`cloister_gateway.models.demand`), and what is less urgent than an answer that somebody waits for, have no more than
  `admission.crowd_share` together. Pods compute what they have in common steps, and each step takes the longer the more
  there is in it, for everybody. A flood shows only when more of it has come: of requests that come together, those
  beyond that share wait for `_SHOW_SECONDS`, even of a tenant who does not want too much yet.
- **In the pod too** the first request of a tenant comes before the tenth of another: vLLM's ``priority`` is the class,
  and within it how many the tenant has under way already. It orders the pod's queue, and says who is put off where the
  cache is full; running requests go on.
- **Other gateways** at the same pods are heard of by the pods (`cloister_common.flight`), at most two seconds late.
  A gateway takes what they leave, and never less than its even share: so one that gets all requests has all tokens,
  two that are both asked for everything have half each within seconds, and none waits for the others to be fair. What
  both take in the same second is too much for as long as it takes to end, and waits in the pods, in their order.

Sizes are estimates, learnt from what has ended (`cloister_gateway.models.estimates`). Where pods do not say what they
hold, as those behind a pool that chooses itself, nothing is bounded and nobody waits, unless the model's
`tokens_in_flight` says it.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from cloister_common.flight import MOST_NAMES, Flight
from prometheus_client import Counter, Gauge

from cloister_gateway.admission.pace import Flow
from cloister_gateway.admission.place import Overloaded, Place
from cloister_gateway.admission.queue import FairQueue
from cloister_gateway.models.demand import Demand
from cloister_gateway.models.estimates import Estimates
from cloister_gateway.models.holds import HEADROOM, Capacity, Hold
from cloister_gateway.models.waking.records import Standing, Told
from cloister_gateway.models.work import RANKS, WorkClass
from cloister_gateway.settings import AdmissionSettings

__all__ = ["ModelFlight", "Resting"]

_TOKENS = Gauge("cloister_llm_tokens_in_flight", "Tokens that this gateway has under way at a model's pods.", ["model"])
_BOUND = Gauge("cloister_llm_tokens_bound", "The most of them.", ["model"])
_WAITING = Gauge("cloister_llm_waiting", "Requests that wait for tokens of a model's pods.", ["model", "work"])
_REFUSED = Counter("cloister_llm_refused_total", "Requests told to come later.", ["model", "reason"])

_SUDDEN_SECONDS = 0.02
"""What comes so soon behind another request of its tenant comes together with it."""
_SHOW_SECONDS = 0.05
"""A client that asks for hundreds together has asked for dozens by then, and nobody sees such a wait."""
_FIRST_HELD_SECONDS = 20.0
_NEW = 0.05
_TELL_SECONDS = 0.5
"""A wait that is shorter is not worth an event."""

_Bar = Literal["full", "headroom", "crowd", "show"]
"""What keeps a request from beginning: that there is no room for it at all, or none but for those who have little, or
none for a crowd; or that it is yet to show whether it is one of a flood."""

Resting = Callable[[], AbstractContextManager[None]]
"""Around the wait of something that has a place in this process (`cloister_gateway.admission.Admission.resting`)."""


class ModelFlight:
    """What is under way of one model.

    Args:
        model: Its name.
        settings: Shares, and how many may wait for how long.
        resting: Around waits.
    """

    def __init__(self, model: str, settings: AdmissionSettings, resting: Resting) -> None:
        self._model = model
        self._settings = settings
        self._resting = resting
        self._queue: FairQueue[Hold] = FairQueue(settings.model_waiting, len(WorkClass))
        self._demand = Demand(settings.share_of)
        self._others = Flight()
        self._limit = Capacity()
        self._held_seconds = _FIRST_HELD_SECONDS
        self._flow = Flow(time.monotonic())
        self.estimates = Estimates()
        self._tokens_gauge, self._bound_gauge = _TOKENS.labels(model), _BOUND.labels(model)
        self._waiting_gauges = {work: _WAITING.labels(model, work.value) for work in WorkClass}

    @property
    def tokens(self) -> int:
        """Under way, by estimate."""
        return self._demand.all.tokens

    @property
    def requests(self) -> int:
        """Under way."""
        return self._demand.all.requests

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def longest_wait(self) -> float:
        """Seconds that an interactive request may be expected to wait."""
        return self._settings.model_wait_seconds

    @property
    def limit(self) -> Capacity:
        """The most that this gateway has under way."""
        return self._limit

    def hear(self, capacity: Capacity, others: Flight) -> None:
        """Takes what the pods say: what all of them hold, and what other gateways have under way there."""
        self._others = others
        gateways = others.gateways + 1
        self._limit = Capacity(
            max(capacity.tokens / gateways, capacity.tokens - others.tokens),
            max(capacity.requests / gateways, capacity.requests - others.requests),
        )
        self._bound_gauge.set(self._limit.tokens)
        self._serve()

    def word(self) -> Flight:
        """What the other gateways are told."""
        modest = self._demand.modest(self._limit, self._others, MOST_NAMES)
        return Flight(self.tokens, self.requests, 1, modest)

    def check(self, tenant: str, work: WorkClass, tokens: int) -> None:
        """Raises `Overloaded` where `ask` would, for what is about to be accepted."""
        hold = Hold(self, tenant, work, tokens)
        if work is not WorkClass.BATCH and not self._may(hold) and (reason := self._reason_against(hold)):
            raise self.refuse(hold, reason)

    def ask(self, tenant: str, work: WorkClass, tokens: int, *, accepted: bool = False) -> Hold:
        """What a request takes, or its place in the queue (`wait`), at once.

        Args:
            tenant: Whose it is.
            work: Its class. Lines of a batch are never refused: their batch waits with them.
            tokens: What it comes to.
            accepted: Whether it was promised to its caller, and is not refused any more.

        Raises:
            Overloaded: There are too many before it.
        """
        hold = Hold(self, tenant, work, tokens)
        if work is WorkClass.INTERACTIVE:
            hold.sudden = self._demand.come(tenant) < _SUDDEN_SECONDS
        if not self._queue and self._may(hold):
            self._begin(hold)
            return hold
        reason = None if accepted or work is WorkClass.BATCH else self._reason_against(hold)
        self._pass_time()
        weight = self._settings.share_of(tenant)
        self._queue.add(tenant, hold.queued(), level=work.level, cost=tokens, weight=weight)
        self._demand.want(hold)
        self._serve()
        if hold.waits and hold.sudden and self._is_modest(hold):
            asyncio.get_running_loop().call_later(_SHOW_SECONDS, self._show, hold)
        self._count_waiting(work)
        if hold.waits and reason is not None:
            hold.give_back()
            raise self.refuse(hold, reason)
        return hold

    def go_on(self, tenant: str, work: WorkClass, tokens: int) -> Hold:
        """What a request takes that had its turn, and goes on on another pod: it is counted, and does not wait."""
        hold = Hold(self, tenant, work, tokens)
        self._begin(hold)
        return hold

    async def wait(self, hold: Hold, *, longest: float | None, told: Told | None = None) -> None:
        """Returns when the turn of ``hold`` has come.

        Args:
            hold: What waits. It is given back where this fails.
            longest: Seconds that it waits at most.
            told: Learns where it stands, if the wait takes a moment, and that it goes on.

        Raises:
            Overloaded: It took longer.
        """
        if not hold.waits:
            return
        has_told = False

        def tell() -> None:
            nonlocal has_told
            if told is not None and hold.waits:
                has_told = True
                told(Standing(self._queue.place(hold.tenant, hold, level=hold.work.level), "ready"))

        timer = asyncio.get_running_loop().call_later(_TELL_SECONDS, tell)
        # (A line of a batch has no place in this process that it could leave.)
        with nullcontext() if hold.work is WorkClass.BATCH else self._resting():
            try:
                await hold.wait(longest)
            finally:
                timer.cancel()
        if has_told and told is not None:
            told(None)

    def refuse(self, place: Place, reason: str) -> Overloaded:
        """As `Owner.refuse`."""
        assert isinstance(place, Hold)
        _REFUSED.labels(self._model, reason).inc()
        self._pass_time()
        retry_after = self._flow.retry_after(self._ahead(place), place.tokens, self._guess())
        own = self._queue.waiting(place.tenant, place.work.level)
        return Overloaded(
            retry_after,
            f"The pods of the model '{self._model}' have as many tokens under way as they hold, and "
            f"{len(self._queue)} requests wait for them, {own} of them yours. Try again after the seconds that "
            "Retry-After says.",
        )

    def left(self, place: Place, held_seconds: float | None) -> None:
        """As `Owner.left`."""
        assert isinstance(place, Hold)
        if place.waits:
            self._pass_time()
            self._queue.remove(place.tenant, place, level=place.work.level)
            self._demand.want(place, -1)
            self._count_waiting(place.work)
        else:
            if held_seconds is not None:
                self._held_seconds += _NEW * (held_seconds - self._held_seconds)
            self._count(place, -1)
        self._serve()

    def _serve(self) -> None:
        """Gives what is free to those who wait, in their order."""
        while self._queue:
            passed: set[_Bar] = set()
            for hold in self._queue.order():
                bar = self._bar(hold, passed)
                if bar is None:
                    break
                if bar == "full":
                    return  # Whoever is next waits for enough: what is smaller must not go before it for ever.
                passed.add(bar)
            else:
                return
            self._pass_time()
            self._queue.serve(hold.tenant, level=hold.work.level)
            self._demand.want(hold, -1)
            self._count_waiting(hold.work)
            if hold.grant():
                self._flow.left(hold.tokens)
                self._begin(hold)

    def _show(self, hold: Hold) -> None:
        """``hold`` has waited for long enough, as its timer says. (uvloop's are early by up to a millisecond.)"""
        hold.sudden = False
        self._serve()

    def _begin(self, hold: Hold) -> None:
        had = self._demand.held(hold.work, hold.tenant).requests
        if had:
            hold.rank = min(RANKS - 1, int(had / self._settings.share_of(hold.tenant)))
        self._count(hold, 1)

    def _count(self, hold: Hold, change: int) -> None:
        self._demand.begin(hold, change)
        self._tokens_gauge.set(self.tokens)

    def _count_waiting(self, work: WorkClass) -> None:
        self._waiting_gauges[work].set(self._queue.size(work.level))

    def _is_full(self, hold: Hold) -> bool:
        return self._limit.part(self.tokens + hold.tokens, self.requests + 1) > 1

    def _may(self, hold: Hold) -> bool:
        """Whether it may begin now, were it next."""
        return self._bar(hold) is None

    def _bar(self, hold: Hold, passed: Collection[_Bar] = ()) -> _Bar | None:
        """What keeps it from beginning now, were it next but for those whom these bars keep; None where it may."""
        if not self._demand.all.requests:
            return None  # Whatever its size.
        if self._is_full(hold):
            return "full"
        own = self._demand.held(hold.work, hold.tenant)
        part = self._limit.part(own.tokens + hold.tokens, own.requests + 1)
        leaves_headroom = self._limit.leaves_headroom(self.tokens + hold.tokens, self.requests + 1)
        if "headroom" in passed or not leaves_headroom:
            is_small = not own.requests or part <= HEADROOM
            # (Many who have little may fill the pods for ever. What is served out of turn is a sixteenth too.)
            comes = hold.work is WorkClass.INTERACTIVE or self._queue.is_due(hold.work.level)
            if not (is_small and comes):
                return "headroom"
            if not leaves_headroom:
                return None
        most, is_modest = self._settings.crowd_share, self._is_modest(hold)
        if is_modest and (part <= most or self._has_shown(hold)):
            return None
        if not self._demand.others_come(hold, self._limit, self._others):
            return None
        crowd = self._demand.crowd(hold, self._limit, self._others)
        fits = not crowd.requests or self._limit.part(crowd.tokens + hold.tokens, crowd.requests + 1) <= most
        if fits and "crowd" not in passed:
            return None
        return "show" if is_modest else "crowd"

    def _is_modest(self, hold: Hold) -> bool:
        more = None if hold.waits else hold
        return hold.work is WorkClass.INTERACTIVE and self._demand.is_modest(
            hold.tenant, self._limit, self._others, more
        )

    def _has_shown(self, hold: Hold) -> bool:
        return not hold.sudden or (hold.waits and time.monotonic() - hold.asked_at >= _SHOW_SECONDS)

    def _reason_against(self, hold: Hold) -> str | None:
        """Why ``hold`` should not wait: there is no room for it, or it would wait too long. None where it may.

        The first of a tenant may always wait for its turn.
        """
        if not self._queue.fits(hold.tenant, hold.work.level):
            return "queue_full"
        if hold.work is WorkClass.INTERACTIVE and self._queue.waiting(hold.tenant):
            most = self._settings.model_wait_seconds * self._flow.rate(self._guess())
            return "wait_too_long" if self._ahead(hold) > most else None
        return None

    def _ahead(self, hold: Hold) -> float:
        weight = self._settings.share_of(hold.tenant)
        return self._queue.ahead(hold.tenant, level=hold.work.level, weight=weight)

    def _guess(self) -> float:
        """What leaves in a second by Little's law, as long as nobody has waited: what fits, by how long it is held."""
        fits: float = self.tokens  # (What a crowd has, while it is held small, is less than fits.)
        if not self._queue and self._limit.tokens < math.inf:
            # As many requests as pods compute may be less than their caches hold.
            mean = self.tokens / self.requests if self.requests else math.inf
            fits = min(self._limit.tokens, self._limit.requests * mean)
        return max(fits, 1.0) / max(self._held_seconds, 0.001)

    def _pass_time(self) -> None:
        self._flow.pass_time(time.monotonic(), queued=bool(self._queue), guess=self._guess())
