"""Which pod gets a request."""

from collections import Counter

import pytest
from cloister_gateway.models.pods import LOAD_FACTOR, Load, Pods

URLS = [f"http://pod-{number}" for number in range(4)]


def test_same_conversation_meets_the_same_pod() -> None:
    pods = Pods(URLS, outage_seconds=5)
    assert len({pods.choose("conversation") for _ in range(20)}) == 1


def test_conversations_spread_over_the_pods() -> None:
    pods = Pods(URLS, outage_seconds=5)
    chosen = Counter(pod.url for number in range(4000) if (pod := pods.choose(f"conversation {number}")))
    assert min(chosen.values()) > 800


def test_losing_a_pod_moves_only_its_conversations() -> None:
    pods = Pods(URLS, outage_seconds=5)
    names = [f"conversation {number}" for number in range(500)]
    before = {name: pods.choose(name) for name in names}
    pods.failed(pods.all[0])
    moved = {name for name in names if pods.choose(name) is not before[name]}
    assert moved == {name for name in names if before[name] is pods.all[0]}


def test_pods_that_come_and_go_leave_no_conversation_where_it_does_not_belong() -> None:
    """What is remembered of them is what would be found without."""
    pods = Pods(URLS, outage_seconds=5)
    names = [f"conversation {number}" for number in range(300)]
    for urls in (URLS, URLS[1:], [*URLS[1:], "http://pod-9"], URLS):
        pods.replace(urls)
        for _ in range(2):
            chosen = [pod.url for name in names if (pod := pods.choose(name))]
            fresh = Pods(urls, outage_seconds=5)
            expected = [pod.url for name in names if (pod := fresh.choose(name))]
            assert chosen == expected


def test_what_is_remembered_of_conversations_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister_gateway.models.pods._MOST_HOMES", 10)
    pods = Pods(URLS, outage_seconds=5)
    for number in range(50):
        pods.choose("an old one")
        pods.choose(f"conversation {number}")
    assert len(pods._homes) == 10
    assert "an old one" in pods._homes, "who is asked for stays"


def test_affinity_gives_way_to_load() -> None:
    pods = Pods(URLS, outage_seconds=5)
    for number in range(100):
        pod = pods.choose("one busy conversation", tokens=1000)
        assert pod is not None
        pods.begin(pod, 1000)
        if number == 1:
            assert pod.running == 2  # Two at once are no reason yet to leave the pod that knows the conversation.
    assert max(pod.running for pod in pods.all) <= LOAD_FACTOR * 25 + 1
    for pod in pods.all:
        for _ in range(pod.running):
            pods.end(pod, 1000)
    assert len({pods.choose("one busy conversation", tokens=1000) for _ in range(20)}) == 1


def test_load_is_counted_in_tokens() -> None:
    pods = Pods(URLS, outage_seconds=5)
    pod = pods.choose("conversation", tokens=100)
    assert pod is not None
    pods.begin(pod, 50_000)
    for other in pods.all:
        if other is not pod:
            pods.begin(other, 100)
            pods.begin(other, 100)
    assert pods.choose("conversation", tokens=100) is not pod
    assert pods.choose(None) is not pod


def test_a_pod_whose_queue_is_longer_than_the_others_gives_way() -> None:
    """What other gateways ask of it shows in its own word alone."""
    pods = Pods(URLS, outage_seconds=5)
    home = pods.choose("conversation")
    assert home is not None
    pods.report(home, Load(waiting=1))
    assert pods.choose("conversation") is home
    pods.report(home, Load(waiting=9))
    away = pods.choose("conversation")
    assert away is not home
    for pod in pods.all:
        pods.report(pod, Load(waiting=9))
    assert pods.choose("conversation") is home
    pods.report(home, None)
    assert pods.choose("conversation") is home


def test_a_pod_that_is_about_to_end_gets_nothing_new() -> None:
    pods = Pods(URLS[:2], outage_seconds=5)
    ending, other = pods.all
    pods.report(ending, Load(ending=True))
    pods.answered(ending)
    assert all(pods.choose(f"conversation {number}") is other for number in range(50))
    assert pods.choose(None) is other
    pods.replace(URLS[:2])
    assert pods.choose(None, tried={other}) is ending
    pods.report(ending, Load())
    assert {pods.choose(f"conversation {number}") for number in range(50)} == {ending, other}


@pytest.mark.parametrize("well", [True, False])
def test_one_request_tries_a_pod_that_was_left_out(well: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("cloister_gateway.models.pods.time.monotonic", lambda: now)
    pods = Pods(URLS[:2], outage_seconds=5)
    home = pods.choose("conversation")
    assert home is not None
    pods.failed(home)
    assert pods.choose("conversation") is not home
    now += 6
    assert pods.choose("conversation") is home
    assert pods.choose("conversation") is not home
    if well:
        pods.answered(home)
        assert pods.choose("conversation") is home
    else:
        now += 6
        assert pods.choose("conversation") is home


def test_a_pod_that_went_away_takes_its_load_with_it() -> None:
    pods = Pods(URLS[:3], outage_seconds=5)
    gone = pods.all[0]
    pods.begin(gone, 1000)
    pods.replace(URLS[1:3])
    pods.end(gone, 1000)
    for _ in range(20):
        pod = pods.choose("conversation", tokens=10)
        assert pod is not None
        pods.begin(pod, 10)
    assert max(pod.running for pod in pods.all) <= LOAD_FACTOR * 10 + 1


def test_without_affinity_the_least_busy_pod_is_chosen() -> None:
    pods = Pods(URLS, outage_seconds=5)
    for pod in pods.all[1:]:
        pods.begin(pod, 3)
    assert pods.choose(None) is pods.all[0]


def test_failed_pod_is_left_out_until_it_answers_but_tried_if_there_is_no_other() -> None:
    pods = Pods(URLS[:2], outage_seconds=60)
    first, second = pods.all
    pods.failed(first)
    assert all(pods.choose(f"conversation {number}") is second for number in range(50))
    assert pods.choose(None, tried={second}) is first
    assert pods.choose(None, tried={first, second}) is None
    pods.answered(first)
    assert {pods.choose(f"conversation {number}") for number in range(50)} == {first, second}


def test_one_slow_request_leaves_its_pod_in_and_many_in_a_row_do_not() -> None:
    pods = Pods(URLS[:2], outage_seconds=60)
    slow, other = pods.all
    for _ in range(2):
        pods.late(slow)
        pods.late(slow)
        assert slow.out_until == 0
        pods.answered(slow)
    for _ in range(3):
        pods.late(slow)
    assert all(pods.choose(f"conversation {number}") is other for number in range(50))
