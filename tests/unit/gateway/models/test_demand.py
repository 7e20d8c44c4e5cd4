"""Who is modest: by the shares of those who come, however many they are."""

from typing import Any

import pytest
from cloister_common.flight import Flight
from cloister_gateway.models.demand import Demand
from cloister_gateway.models.holds import Capacity, Hold
from cloister_gateway.models.work import WorkClass

from tests.unit.gateway.models.clock import Clock

LIMIT, ALONE = Capacity(10**9, 100), Flight()


class Shares:
    """Everybody's, and how often one was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, tenant: str) -> float:
        self.asked += 1
        return 7.0 if tenant == "large" else 1.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("cloister_gateway.models.demand.time.monotonic", made)
    return made


def one_of(tenant: str, requests: int, demand: Demand) -> Hold:
    """One of so many that ``tenant`` wants."""
    owner: Any = None
    hold = Hold(owner, tenant, WorkClass.INTERACTIVE, 1)
    for _ in range(requests):
        demand.want(hold)
    return hold


def test_a_share_is_one_among_those_who_came_lately(clock: Clock) -> None:
    demand = Demand(Shares())
    one_of("loud", 95, demand)
    for tenant in ("a", "large", "quiet"):
        demand.come(tenant)
        clock.now += 10
    # All of them still come, and "a", which came twice, has a ninth.
    demand.come("a")
    one_of("a", 11, demand)
    assert demand.is_modest("a", LIMIT, ALONE)
    one_of("a", 1, demand)
    assert not demand.is_modest("a", LIMIT, ALONE)
    assert demand.is_modest("quiet", LIMIT, ALONE)
    clock.now += 25  # Those two come no more.
    one_of("a", 80, demand)
    assert demand.is_modest("a", LIMIT, ALONE), "alone it has all"


def test_a_decision_asks_nobody_about_each_of_those_who_come(clock: Clock) -> None:
    shares = Shares()
    demand = Demand(shares)
    for number in range(1000):
        demand.come(f"quiet-{number}")
    hold = one_of("loud", 200, demand)
    shares.asked = 0
    assert not demand.is_modest("loud", LIMIT, ALONE)
    assert demand.others_come(hold, LIMIT, ALONE)
    assert demand.crowd(hold, LIMIT, ALONE).requests == 0
    assert shares.asked < 10
