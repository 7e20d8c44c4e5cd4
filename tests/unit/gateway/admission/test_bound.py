"""The bound finds what a process can do, and stays there."""

from types import SimpleNamespace
from typing import Any, cast

from cloister_gateway.admission.bound import Bound
from cloister_gateway.admission.load import SAMPLE_SECONDS
from cloister_gateway.settings import AdmissionSettings

SECOND = round(1 / SAMPLE_SECONDS)


class Machine:
    """A process that carries ``capacity`` generations: over that its loop is late, the more the later."""

    def __init__(self, capacity: int, **settings: Any) -> None:
        self.settings = AdmissionSettings(**settings)
        self.bound = Bound(self.settings)
        self.capacity = capacity
        self.running = 0.0
        self.seen: list[int] = []

    def pass_seconds(self, seconds: int, *, asked: int) -> None:
        """Time passes with ``asked`` generations asked for, each of which takes ten seconds."""
        for _ in range(seconds * SECOND):
            self.running -= self.running * SAMPLE_SECONDS / 10
            self.running = max(self.running, min(self.bound.most, asked))
            lag = max(0.0, 2 * self.settings.lag_seconds * (self.running / self.capacity - 0.6))
            load = cast("Any", SimpleNamespace(lag=lag, latency=0.0))
            self.bound.follow(load, running=round(self.running), wanted=asked > self.bound.most)
            self.seen.append(self.bound.most)


def test_bound_is_found_within_seconds_and_does_not_swing() -> None:
    machine = Machine(400)
    machine.pass_seconds(5, asked=3000)
    assert 300 < machine.bound.most < 480
    machine.seen.clear()
    machine.pass_seconds(120, asked=3000)
    assert max(machine.seen) - min(machine.seen) < 60, "it stays where it is"
    assert min(machine.seen) > 300


def test_bound_comes_down_where_a_process_gets_less_than_it_had_and_up_again() -> None:
    machine = Machine(400)
    machine.pass_seconds(10, asked=3000)
    machine.capacity = 100
    machine.pass_seconds(60, asked=3000)
    assert 60 < machine.bound.most < 130
    machine.capacity = 400
    machine.pass_seconds(60, asked=3000)
    assert machine.bound.most > 250


def test_bound_keeps_between_its_settings_however_late_all_is() -> None:
    machine = Machine(1, least_generations=8)
    machine.pass_seconds(300, asked=3000)
    assert machine.bound.most == 8
    idle = Machine(10**9, most_generations=500)
    idle.pass_seconds(60, asked=3000)
    assert idle.bound.most == 500


def test_bound_that_nobody_reaches_does_not_grow() -> None:
    machine = Machine(10**9)
    before = machine.bound.most
    machine.pass_seconds(60, asked=before - 1)
    assert machine.bound.most == before


def test_process_that_is_late_with_nothing_to_do_still_takes_what_comes() -> None:
    """Its start, a storm of connections or a neighbour made it late: that says little of what it can carry."""
    bound = Bound(AdmissionSettings())
    before = bound.most
    late = cast("Any", SimpleNamespace(lag=1.0, latency=0.0))
    for _ in range(3 * SECOND):
        bound.follow(late, running=2, wanted=False)
    assert bound.most > before * 0.8
    assert bound.expected > before, "and it may still grow fast"


def test_slow_redis_brings_the_bound_down_too() -> None:
    settings = AdmissionSettings()
    bound = Bound(settings)
    before = bound.most
    slow = cast("Any", SimpleNamespace(lag=0.0, latency=settings.redis_seconds * 2))
    bound.follow(slow, running=100, wanted=True)
    assert bound.most == 95 < before
