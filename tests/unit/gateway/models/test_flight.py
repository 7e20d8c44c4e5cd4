"""What is under way at a model's pods: never more than they hold, in fair shares, and nothing is lost on the way."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from cloister_common.errors import TooManyRequests
from cloister_common.flight import Board, Flight, told
from cloister_gateway.models.flight import ModelFlight
from cloister_gateway.models.holds import Capacity, Hold
from cloister_gateway.models.waking.records import Standing
from cloister_gateway.models.work import RANKS, WorkClass
from cloister_gateway.settings import AdmissionSettings
from hypothesis import given
from hypothesis import strategies as st

from tests.support.waiting import until
from tests.unit.gateway.models.clock import Clock

INTERACTIVE, BACKGROUND, BATCH = WorkClass
ALONE = Flight()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("cloister_gateway.models.flight.time.monotonic", made)
    monkeypatch.setattr("cloister_gateway.models.demand._RECENT_SECONDS", 10.0)
    return made


class Rests:
    """Counts who waits without a place in the process."""

    def __init__(self) -> None:
        self.now = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.now += 1
        try:
            yield
        finally:
            self.now -= 1


def flight(tokens: float, requests: float = 10_000, rests: Rests | None = None, **settings: object) -> ModelFlight:
    values = {"model_wait_seconds": 10_000.0, "crowd_share": 0.25, **settings}
    made = ModelFlight("fake", AdmissionSettings.model_validate(values), rests or Rests())
    made.hear(Capacity(tokens, requests), ALONE)
    return made


def asked(of: ModelFlight, tenant: str, count: int, tokens: int = 100, work: WorkClass = INTERACTIVE) -> list[Hold]:
    return [of.ask(tenant, work, tokens) for _ in range(count)]


def begun(holds: list[Hold]) -> int:
    return sum(not hold.waits for hold in holds)


async def test_a_tenant_alone_has_all_but_the_headroom_and_the_next_waits() -> None:
    model = flight(3200)
    assert begun(asked(model, "a", 40)) == 30
    assert (model.tokens, model.waiting) == (3000, 10)


async def test_few_requests_at_once_bound_as_well_as_tokens_do() -> None:
    model = flight(10**9, 8)
    assert begun(asked(model, "a", 20)) == 8, "of so few none is kept free"


async def test_who_comes_new_finds_room_beside_a_crowd() -> None:
    model = flight(3200)
    asked(model, "crowd", 200)
    assert begun(asked(model, "new", 3)) == 2


async def test_a_request_that_is_larger_than_all_there_is_goes_alone() -> None:
    model = flight(1000)
    large, small = model.ask("a", INTERACTIVE, 5000), model.ask("b", INTERACTIVE, 10)
    assert (large.waits, small.waits) == (False, True)
    large.give_back()
    assert not small.waits


async def test_what_is_large_is_not_passed_by_what_is_small_for_ever() -> None:
    model = flight(1000)
    first = asked(model, "a", 9)
    large = model.ask("b", INTERACTIVE, 900)
    small = asked(model, "c", 5, tokens=1)
    first[0].give_back()
    assert large.waits
    assert begun(small) == 0, "it would go on for ever"


async def test_a_crowd_has_its_share_only_while_another_tenant_comes(clock: Clock) -> None:
    model = flight(3200)
    quiet = model.ask("quiet", INTERACTIVE, 100)
    crowd = asked(model, "crowd", 200)
    assert begun(crowd) == 8, "a quarter of the pods"
    quiet.give_back()
    clock.now += 5
    model.hear(Capacity(3200), ALONE)
    assert begun(crowd) == 8, "it may come again"
    clock.now += 6
    model.hear(Capacity(3200), ALONE)
    assert begun(crowd) == 30, "it does not"


async def test_a_crowd_does_not_grow_with_each_request_of_another(clock: Clock) -> None:
    model = flight(3200)
    model.ask("quiet", INTERACTIVE, 100).give_back()
    crowd = asked(model, "crowd", 200)
    for _ in range(30):
        clock.now += 1
        quiet = model.ask("quiet", INTERACTIVE, 100)
        assert not quiet.waits
        quiet.give_back()
    assert begun(crowd) == 8


async def test_tenants_who_together_want_no_more_than_there_is_do_not_wait_for_each_other(clock: Clock) -> None:
    model = flight(3200)
    for _ in range(9):
        for tenant in ("a", "b", "c"):
            clock.now += 0.1
            assert not model.ask(tenant, INTERACTIVE, 100).waits


async def test_a_batch_beside_two_tenants_is_no_reason_for_either_to_wait(clock: Clock) -> None:
    model = flight(3200)
    asked(model, "a", 1)
    lines = asked(model, "night", 100, work=BATCH)
    assert begun(lines) == 8
    for _ in range(5):
        clock.now += 0.1
        assert begun(asked(model, "b", 1) + asked(model, "a", 1)) == 2


async def test_who_has_just_asked_for_too_much_is_no_reason_for_others_to_wait(clock: Clock) -> None:
    model = flight(3200)
    asked(model, "quiet", 1)
    for hold in asked(model, "crowd", 200):
        hold.give_back()
    for _ in range(12):
        clock.now += 0.1
        assert not model.ask("quiet", INTERACTIVE, 100).waits


async def test_a_few_that_come_together_begin_once_they_are_seen_to_be_no_flood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = flight(3200)
    model.ask("quiet", INTERACTIVE, 100)
    now = time.monotonic()
    # For it they come together, however busy the machine is, and their timers are early.
    for module in ("demand", "flight"):
        monkeypatch.setattr(f"cloister_gateway.models.{module}.time", SimpleNamespace(monotonic=lambda: now))
    few = asked(model, "busy", 12)
    assert begun(few) == 8
    await until(lambda: begun(few) == 12, what="the others of them begin")


async def test_tenants_who_all_wait_share_all_there_is(clock: Clock) -> None:
    model = flight(3200)
    waiting = [hold for tenant in ("a", "b") for hold in asked(model, tenant, 100)]
    under_way: deque[Hold] = deque()
    begun_by: Counter[str] = Counter()
    for _ in range(80):
        new = [hold for hold in waiting if not hold.waits]
        waiting = [hold for hold in waiting if hold.waits]
        under_way.extend(new)
        if len(under_way) > len(new):
            begun_by.update(hold.tenant for hold in new)
        under_way.popleft().give_back()
        assert model.tokens >= 2900, "nothing is kept free for others"
    assert 0.6 < begun_by["a"] / begun_by["b"] < 1.6


async def test_less_urgent_work_is_held_small_while_somebody_waits_for_answers(clock: Clock) -> None:
    model = flight(3200)
    lines = asked(model, "night", 100, work=BATCH)
    assert begun(lines) == 30, "alone it has what saturates the pods"
    answer = model.ask("day", INTERACTIVE, 100)
    assert not answer.waits
    for line in [line for line in lines if not line.waits][:25]:
        line.give_back()
    assert model.tokens - 100 == 800
    clock.now += 11
    answer.give_back()
    assert model.tokens == 3000


async def test_classes_come_in_their_order() -> None:
    model = flight(1000)
    taken = model.ask("x", INTERACTIVE, 1000)
    waiting = {work: model.ask("a", work, 900) for work in (BATCH, BACKGROUND, INTERACTIVE)}
    taken.give_back()
    assert [work for work, hold in waiting.items() if not hold.waits] == [INTERACTIVE]
    waiting[INTERACTIVE].give_back()
    assert not waiting[BACKGROUND].waits
    assert waiting[BATCH].waits


async def test_in_the_pod_the_first_of_a_tenant_comes_before_the_tenth_of_another() -> None:
    model = flight(10**6, shares={"large": 4})
    crowd = asked(model, "crowd", 10)
    assert [hold.priority for hold in crowd] == list(range(10))
    assert model.ask("new", INTERACTIVE, 100).priority == 0
    assert [hold.priority for hold in asked(model, "large", 8)] == [0, 0, 0, 0, 1, 1, 1, 1], "by its share"
    assert model.ask("crowd", BACKGROUND, 100).priority == RANKS
    assert model.ask("crowd", BATCH, 100).priority == 2 * RANKS


async def test_what_others_have_is_left_to_them_and_an_even_share_is_ours() -> None:
    model = flight(3200)
    model.hear(Capacity(3200, 64), Flight(1000, 10, 1, frozenset()))
    assert model.limit == Capacity(2200, 54)
    model.hear(Capacity(3200, 64), Flight(3200, 64, 3, frozenset()))
    assert model.limit == Capacity(800, 16)


async def test_a_crowd_is_held_smaller_for_a_tenant_of_another_gateway_too(clock: Clock) -> None:
    here, there = flight(3200), flight(3200)
    there.ask("quiet", INTERACTIVE, 100)
    board = Board()
    board.note({"x-cloister-flight": told("there", there.word())})
    others = board.note({"x-cloister-flight": told("here", here.word())})
    here.hear(Capacity(3200), others)
    assert begun(asked(here, "crowd", 100)) == 7, "a quarter of what the other leaves"
    assert begun(asked(flight(3200), "crowd", 100)) == 30
    again = flight(3200)
    again.hear(Capacity(3200), others)
    assert begun(asked(again, "quiet", 100)) > 7, "a tenant is no other to itself"


async def test_too_many_are_refused_by_the_rate_at_which_tokens_leave(clock: Clock) -> None:
    model = flight(1000, model_wait_seconds=10.0)
    held = asked(model, "a", 9)
    waiting = asked(model, "a", 1)
    for _ in range(20):  # 100 tokens a second leave the queue
        clock.now += 1
        held.pop(0).give_back()
        held += [hold for hold in waiting if not hold.waits]
        waiting = [hold for hold in waiting if hold.waits] + asked(model, "a", 1)
    while len(waiting) < 10:
        waiting += asked(model, "a", 1)
    with pytest.raises(TooManyRequests) as refused:
        asked(model, "a", 8)
    assert refused.value.retry_after is not None
    assert 8 <= refused.value.retry_after <= 30
    assert f"{model.waiting} requests wait" in refused.value.message
    assert not model.ask("b", INTERACTIVE, 50).waits, "the first of another tenant finds the headroom"
    assert model.ask("a", INTERACTIVE, 100, accepted=True).waits, "what was promised is not refused"


async def test_no_more_wait_than_there_is_room_for_but_lines_of_a_batch() -> None:
    model = flight(1000, model_waiting=10)
    asked(model, "a", 9)
    asked(model, "a", 5)
    with pytest.raises(TooManyRequests):
        model.ask("a", INTERACTIVE, 100)
    with pytest.raises(TooManyRequests):
        model.check("a", INTERACTIVE, 100)
    assert all(hold.waits for hold in asked(model, "a", 50, work=BATCH))


async def test_who_waits_rests_hears_of_it_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister_gateway.models.flight._TELL_SECONDS", 0.0)
    rests = Rests()
    model = flight(1000, rests=rests)
    (first,) = asked(model, "a", 1, tokens=900)
    second, third = asked(model, "a", 2, tokens=900)
    heard: list[Standing | None] = []
    tasks = [
        asyncio.create_task(model.wait(second, longest=None, told=heard.append)),
        asyncio.create_task(model.wait(third, longest=None)),
    ]
    async with asyncio.timeout(30):
        while not heard:
            await asyncio.sleep(0)
    assert rests.now == 2
    tasks[1].cancel()
    await asyncio.wait([tasks[1]])
    assert model.waiting == 1
    first.give_back()
    await tasks[0]
    assert heard == [Standing(1, "ready"), None]
    second.give_back()
    assert (model.tokens, model.requests, model.waiting, rests.now) == (0, 0, 0, 0)


async def test_whose_turn_comes_in_the_moment_in_which_it_would_hear_hears_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cloister_gateway.models.flight._TELL_SECONDS", 0.0)
    model = flight(1000)
    first, second = asked(model, "a", 2, tokens=900)
    heard: list[Standing | None] = []
    waits = asyncio.create_task(model.wait(second, longest=None, told=heard.append))
    await asyncio.sleep(0)
    first.give_back()
    await waits
    assert heard == []


async def test_who_waits_too_long_is_told_to_come_later() -> None:
    model = flight(1000)
    asked(model, "a", 1, tokens=1000)
    (late,) = asked(model, "a", 1)
    with pytest.raises(TooManyRequests):
        await model.wait(late, longest=0.0)
    assert model.waiting == 0


_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "end", "leave", "hear"]),
        st.sampled_from("abc"),
        st.sampled_from(list(WorkClass)),
        st.integers(1, 400),
    ),
    max_size=120,
)


@given(_ACTIONS)
async def test_no_more_is_begun_than_the_pods_hold_and_nothing_is_lost(
    actions: list[tuple[str, str, WorkClass, int]],
) -> None:
    model = flight(1000, 20)
    holds: list[Hold] = []
    for what, tenant, work, number in actions:
        if what == "ask":
            holds.append(model.ask(tenant, work, number, accepted=True))
        elif what == "hear":
            model.hear(Capacity(1000, 20), ALONE)
        else:
            kind = [hold for hold in holds if hold.waits == (what == "leave")]
            if kind:
                chosen = kind[number % len(kind)]
                holds.remove(chosen)
                chosen.give_back()
        under_way = [hold for hold in holds if not hold.waits]
        assert (model.tokens, model.requests) == (sum(hold.tokens for hold in under_way), len(under_way))
        assert model.waiting == len(holds) - len(under_way)
        assert model.tokens <= 1000
        assert model.requests <= 20
    rounds = 0
    while holds:  # Each comes to its turn.
        rounds += 1
        assert rounds < 200
        under_way = [hold for hold in holds if not hold.waits]
        assert under_way, "somebody waits although nothing is under way"
        for hold in under_way:
            holds.remove(hold)
            hold.give_back()
    assert (model.tokens, model.requests, model.waiting) == (0, 0, 0)
    came = {tenant for what, tenant, work, _ in actions if (what, work) == ("ask", INTERACTIVE)}
    assert len(model.word().light) == len(came), "somebody is still said to want too much"
