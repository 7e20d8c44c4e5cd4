"""Which pod gets a request."""

from collections import Counter

from cloister_gateway.models.pods import LOAD_FACTOR, Pods

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


def test_affinity_gives_way_to_load() -> None:
    pods = Pods(URLS, outage_seconds=5)
    for _ in range(100):
        pod = pods.choose("one busy conversation")
        assert pod is not None
        pod.running += 1
    assert max(pod.running for pod in pods.all) <= LOAD_FACTOR * 25 + 1


def test_without_affinity_the_least_busy_pod_is_chosen() -> None:
    pods = Pods(URLS, outage_seconds=5)
    for pod in pods.all[1:]:
        pod.running = 3
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
