"""Whoever does not fit yet is passed by those for whom room is kept, and not for ever."""

from collections import Counter, deque

from cloister_gateway.models.flight import ModelFlight
from cloister_gateway.models.holds import Hold
from cloister_gateway.models.work import WorkClass

from tests.unit.gateway.models.clock import Clock
from tests.unit.gateway.models.test_flight import BATCH, INTERACTIVE, asked, begun, clock, flight

__all__ = ["clock"]


def ended_until_one_begins(model: ModelFlight, small: list[Hold], large: list[Hold]) -> int:
    """How many of ``small`` end, one after the other, before the first of ``large`` begins."""
    for count, hold in enumerate(small):
        if begun(large):
            return count
        hold.give_back()
    return len(small)


async def test_long_lines_are_not_passed_by_another_batchs_short_ones_for_ever() -> None:
    model = flight(3200)
    small = asked(model, "short", 300, work=BATCH)
    large = asked(model, "long", 3, tokens=250, work=BATCH)
    assert ended_until_one_begins(model, small, large) < 60


async def test_long_lines_are_not_passed_by_short_ones_for_ever_beside_people_either() -> None:
    model = flight(3200)
    model.ask("quiet", INTERACTIVE, 100)
    small = asked(model, "short", 300, work=BATCH)
    large = asked(model, "long", 3, tokens=900, work=BATCH)
    assert begun(small) == 8, "a quarter of the pods, which a long line is more than"
    assert ended_until_one_begins(model, small, large) < 60
    assert begun(asked(model, "new", 1)) == 1, "and who is modest is held up by neither"


async def test_a_batch_gets_its_sixteenth_beside_many_tenants_who_fill_the_pods() -> None:
    model = flight(3200, model_waiting=10_000)
    waiting = [hold for _ in range(40) for tenant in range(40) for hold in asked(model, f"t{tenant}", 1)]
    waiting += asked(model, "night", 100, work=BATCH)
    under_way: deque[Hold] = deque()
    ended: Counter[WorkClass] = Counter()
    for _ in range(640):
        under_way.extend(hold for hold in waiting if not hold.waits)
        waiting = [hold for hold in waiting if hold.waits]
        ended[under_way[0].work] += 1
        under_way.popleft().give_back()
    assert 30 < ended[BATCH] < 45


async def test_a_crowd_is_held_small_behind_what_waits_for_the_headroom_too(clock: Clock) -> None:
    model = flight(3200, crowd_share=0.03)
    model.ask("quiet", INTERACTIVE, 2560)
    model.ask("large", INTERACTIVE, 10)
    large = asked(model, "large", 2, tokens=500)
    assert begun(large) == 0, "they would leave no headroom"
    assert begun(asked(model, "loud", 50, tokens=20)) <= 4
