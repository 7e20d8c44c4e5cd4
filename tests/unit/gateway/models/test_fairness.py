"""What one tenant's flood and a batch do to another's first tokens, reckoned with a pod that computes in common steps.

Time is made here, so that nothing depends on how busy the machine is; ``tests.bench.gateway --fairness`` measures the
same with a whole gateway.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from cloister_common.errors import TooManyRequests
from cloister_common.flight import Flight
from cloister_gateway.models.flight import ModelFlight
from cloister_gateway.models.holds import Capacity, Hold
from cloister_gateway.models.work import WorkClass
from cloister_gateway.settings import AdmissionSettings

REQUESTS, TOKENS = 32, 46_000
STEP_SECONDS, REQUEST_SECONDS = 0.025, 0.0011
"""About those of the bundled model on two cores."""
PACE_SECONDS = 0.1103
SECONDS = 60.0


@contextmanager
def resting() -> Iterator[None]:
    yield


@dataclass(slots=True)
class Answer:
    """One that was asked for, with the tokens that are left of it, and when it was."""

    hold: Hold
    left: int
    asked: float


class Pod:
    """It gives a token to each of those that run with every step, which takes the longer the more they are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
        self.now = 1000.0
        monkeypatch.setattr("cloister_gateway.models.flight.time.monotonic", lambda: self.now)
        self.model = ModelFlight("fake", AdmissionSettings.model_validate(settings), resting)
        self.model.hear(Capacity(TOKENS, REQUESTS), Flight())
        self.answers: list[Answer] = []
        self.firsts: list[float] = []
        self.made = 0

    def ask(self, tenant: str, tokens: int, work: WorkClass = WorkClass.INTERACTIVE) -> None:
        self.answers.append(Answer(self.model.ask(tenant, work, 10 + tokens), tokens, self.now))

    def step(self) -> None:
        """Whoever has come until now has a token at its end."""
        running = [answer for answer in self.answers if not answer.hold.waits]
        self.now += STEP_SECONDS + REQUEST_SECONDS * len(running)
        self.made += len(running)
        for answer in running:
            if answer.hold.tenant == "quiet" and answer.asked:
                self.firsts.append(self.now - answer.asked)
                answer.asked = 0.0
            answer.left -= 1
            if not answer.left:
                self.answers.remove(answer)
                answer.hold.give_back()

    def beside(self, seconds: float) -> float:
        """The 95th percentile of the first tokens of a tenant that asks at a steady pace, over so many seconds."""
        self.firsts.clear()
        end = self.now + seconds
        next_at = self.now
        while self.now < end:
            began = self.now
            self.step()
            while next_at <= self.now:  # It came while the step went on.
                after, self.now = self.now, max(next_at, began)
                self.ask("quiet", 10)
                self.now = after
                next_at += PACE_SECONDS
            if int(self.now) != int(began):
                self.model.hear(Capacity(TOKENS, REQUESTS), Flight())
        return statistics.quantiles(self.firsts, n=20)[-1]


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> Pod:
    return Pod(monkeypatch)


async def test_a_flood_of_200_raises_the_first_tokens_of_another_tenant_at_most_1_2_times(pod: Pod) -> None:
    alone = pod.beside(SECONDS)
    for _ in range(200):
        pod.ask("loud", 80)
    assert pod.beside(SECONDS) <= 1.2 * alone
    assert pod.model.waiting, "it was there all the while"


async def test_a_full_batch_raises_the_first_tokens_of_a_tenant_at_most_1_3_times(pod: Pod) -> None:
    alone = pod.beside(SECONDS)
    for _ in range(1000):
        pod.ask("night", 80, WorkClass.BATCH)
    assert pod.beside(SECONDS) <= 1.3 * alone
    assert pod.model.waiting, "it was there all the while"


async def test_a_batch_alone_keeps_the_pod_at_nine_tenths_of_what_it_can(pod: Pod) -> None:
    for _ in range(1000):
        pod.ask("night", 80, WorkClass.BATCH)
    began = pod.now
    while pod.now < began + SECONDS:
        pod.step()
    most = REQUESTS / (STEP_SECONDS + REQUEST_SECONDS * REQUESTS)
    assert pod.made / SECONDS >= 0.9 * most


async def test_who_comes_back_when_retry_after_says_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_seconds, crowd = 10.0, 40
    pod = Pod(monkeypatch, model_wait_seconds=wait_seconds)
    for _ in range(3):  # Nobody knows yet how fast tokens leave when the first of them comes.
        told: list[float] = []
        while len(told) < crowd:
            try:
                pod.ask("loud", 80)
            except TooManyRequests as refusal:
                told.append(refusal.retry_after or 0)
        refused_at = pod.now
        for seconds in sorted(told):
            while pod.now < refused_at + seconds:
                pod.step()
            pod.ask("loud", 80)
        while pod.answers:
            pod.step()
    rate = 90 * REQUESTS / (80 * (STEP_SECONDS + REQUEST_SECONDS * REQUESTS))
    assert told[-1] <= 2 * (wait_seconds + 90 * crowd / rate), "it is not put off for much longer than it takes"
