"""The benchmark of `tests.bench.gateway` asks the gateway as it is, and gets whole answers and figures out of it."""

from collections.abc import Iterator

import pytest

from tests.bench.gateway.cluster import Share, ratio_of
from tests.bench.gateway.costs import Load, plain_cost, stream_cost
from tests.bench.gateway.history import past_of
from tests.bench.gateway.overload import stand_of
from tests.bench.gateway.sockets import fan_out_of, idle_of
from tests.bench.gateway.subjects import ROOT, MockPod, Subject, gateway_of, pinned

SMALL = Load(2, tokens_per_second=100, short=2, long=6, alone=1, connections=2, plain_seconds=0.1, settle_seconds=0.05)


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockPod]:
    pod = MockPod(tmp_path_factory.mktemp("pod")).start()
    yield pod
    pod.kill()


@pytest.fixture(scope="module")
def gateway(pod: MockPod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with pinned(), gateway_of(ROOT, tmp_path_factory.mktemp("bench") / "own", pod, name="this checkout") as subject:
        yield subject


@pytest.mark.parametrize("way", ["chat-stream", "sse", "ws-conversation"])
async def test_a_way_of_streams_gives_whole_answers_and_their_cost(way: str, gateway: Subject, pod: MockPod) -> None:
    cost = await stream_cost(gateway, pod, way, SMALL)
    assert (cost.failed, cost.fault) == (0, None)
    assert cost.whole.cpu > 0
    assert 0 < cost.first_alone < cost.first_alone + cost.first_together
    # (What a chat has used is written too, when it is over and with what others have, so that no count of it is sure.)
    if way != "chat-stream":
        assert cost.trips.syncs >= 1
        assert cost.held.syncs >= 1


async def test_plain_chat_is_counted(gateway: Subject, pod: MockPod) -> None:
    cost = await plain_cost(gateway, pod, SMALL)
    assert (cost.failed, cost.fault) == (0, None)
    assert cost.per_second > 0
    assert cost.request.cpu > 0


async def test_growth_is_measured_without_a_failure(gateway: Subject, pod: MockPod) -> None:
    stand = await stand_of(gateway, pod, "sse", 3, tokens=5)
    assert (stand.whole, stand.refused, stand.failed) == (3, 0, 0)
    past = await past_of(gateway, pod, 25)
    assert past.turn > 0
    assert past.sent > 0
    watched = await fan_out_of(gateway, pod, 3, rate=100, tokens=5)
    assert watched.missing == 0
    assert watched.tokens > 0
    idle = await idle_of(gateway, 4, seconds=0.1)
    assert idle.opening > 0


def test_a_cluster_takes_what_its_busiest_master_has_room_for() -> None:
    alone = Share(100, 0.3, (0.05,), (0.0,), None)
    even = Share(100, 0.3, (0.02, 0.02, 0.02), (0.0, 0.0, 0.0), None)
    assert ratio_of([alone], [even]) == pytest.approx(2.5)
    # Of two rounds, each with another busiest master, none is counted alone; what idle masters take is not to be had.
    first, second = (Share(100, 0.3, servers, (0.1,) * 3, None) for servers in ((0.03, 0.01, 0.02), (0.01, 0.03, 0.02)))
    assert ratio_of([alone, alone], [first, second]) == pytest.approx(0.9 * 2.5)
