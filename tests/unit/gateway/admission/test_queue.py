"""Who is next: the more urgent first, tenants by their shares of what their requests cost, and nobody never."""

from collections import Counter

from cloister_gateway.admission.queue import FairQueue
from hypothesis import given
from hypothesis import strategies as st

ROOM = 10_000


def test_tenants_who_wait_get_equal_tokens_and_not_equal_requests() -> None:
    queue: FairQueue[str] = FairQueue(ROOM)
    for _ in range(300):
        queue.add("long", "long", cost=900)
        queue.add("short", "short", cost=100)
    served = Counter(queue.take() for _ in range(300))
    assert 0.9 < served["long"] * 900 / (served["short"] * 100) < 1.1


def test_shares_are_in_tokens_by_weight() -> None:
    queue: FairQueue[str] = FairQueue(ROOM)
    for _ in range(400):
        queue.add("three", "three", cost=50, weight=3)
        queue.add("one", "one", cost=50, weight=1)
    served = Counter(queue.take() for _ in range(400))
    assert 2.8 < served["three"] / served["one"] < 3.2


def test_who_comes_new_waits_for_one_of_a_crowd_at_most() -> None:
    queue: FairQueue[str] = FairQueue(ROOM)
    for number in range(200):
        queue.add("crowd", f"crowd {number}", cost=100)
    for _ in range(50):
        queue.take()
    queue.add("new", "new", cost=100)
    assert "new" in [queue.take() for _ in range(2)]


def test_who_leaves_owes_nothing_for_what_was_not_served() -> None:
    queue: FairQueue[str] = FairQueue(ROOM)
    queue.add("a", "gone", cost=10_000)
    queue.add("a", "a", cost=10)
    queue.add("b", "b1", cost=10)
    queue.add("b", "b2", cost=10)
    queue.remove("a", "gone")
    assert [queue.take() for _ in range(3)] == ["a", "b1", "b2"]


def test_the_more_urgent_come_first_and_the_others_get_a_sixteenth() -> None:
    queue: FairQueue[str] = FairQueue(ROOM, levels=3)
    for _ in range(640):
        for level, name in enumerate(("interactive", "background", "batch")):
            queue.add("tenant", name, level=level, cost=10)
    first = [queue.take() for _ in range(15)]
    assert first == ["interactive"] * 15
    served = Counter(queue.take() for _ in range(625))
    assert served["interactive"] / 625 > 0.85
    for waits in ("background", "batch"):
        assert 1 / 20 < served[waits] / 625 < 1 / 12, "not let by for ever, and no more than promised"


def test_a_class_alone_is_served_at_once_whatever_it_is() -> None:
    queue: FairQueue[str] = FairQueue(ROOM, levels=3)
    queue.add("tenant", "batch", level=2, cost=10)
    assert queue.take() == "batch"


def test_a_class_has_its_room_for_itself() -> None:
    queue: FairQueue[int] = FairQueue(10, levels=3)
    while queue.fits("a", 2):
        queue.add("a", 0, level=2)
    assert queue.size(2) == 5
    assert queue.fits("a", 0)


_ENTRIES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(1, 500), st.booleans()), min_size=1, max_size=60
)


@given(_ENTRIES)
def test_each_entry_comes_once_those_of_a_tenant_and_class_in_order(entries: list[tuple[str, int, int, bool]]) -> None:
    queue: FairQueue[tuple[str, int, int]] = FairQueue(ROOM, levels=3)
    gone: set[tuple[str, int, int]] = set()
    for number, (tenant, level, cost, leaves) in enumerate(entries):
        entry = (tenant, level, number)
        queue.add(tenant, entry, level=level, cost=cost)
        if leaves:
            queue.remove(tenant, entry, level=level)
            gone.add(entry)
    served = []
    while queue:
        head = next(queue.order())
        taken = queue.take()
        assert taken is head
        served.append(taken)
    stayed = {(tenant, level, number) for number, (tenant, level, _, _) in enumerate(entries)} - gone
    assert sorted(served) == sorted(stayed)
    for tenant in "abc":
        for level in range(3):
            own = [number for name, of, number in served if (name, of) == (tenant, level)]
            assert own == sorted(own)
    assert [queue.size(level) for level in range(3)] == [0, 0, 0]
