"""What a Redis Cluster of three masters takes beyond one Redis: two gateways on it, beside one on a Redis of its own.

A machine of two cores cannot show it by the clock, since three masters would share one of them. Redis is a process of
one thread that commands run in, so what it takes at most is one second of the processor in each second: turns a second
on paper are what it has left of that, when nobody asks, over what a turn takes of it; of a cluster, those of its
busiest master. In that are what only a cluster costs (gossip, sharded channels, two replicas of each master, which one
Redis has none of), and how evenly turns fall on the masters: each conversation lies in one slot, and some lists of the
installation lie in one slot each.
"""

import asyncio
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.gateway.meters import cpu_seconds
from tests.bench.gateway.subjects import ROOT, CheckoutGateway, MockPod, Subject, gateway_of, pinned
from tests.bench.gateway.table import print_table
from tests.bench.gateway.ways import open_seats
from tests.support.gateway import secret_file
from tests.support.process import Process
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisOnDisk, RedisServer

__all__ = ["Share", "ratio_of", "run_on_cluster", "shares_of", "two_on_a_cluster"]

_WAY = "ws-conversation"
_TURNS = 3
_SETTLE_SECONDS = 0.5
_IDLE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Share:
    """What turns took, in seconds of the processor beyond what is taken while nobody asks.

    Attributes:
        turns: So many.
        gateways: Of all gateways together.
        servers: Of each Redis that has slots.
        idle: What each of these takes while nobody asks, in each second.
        fault: What one of those said that were not answered.
    """

    turns: int
    gateways: float
    servers: tuple[float, ...]
    idle: tuple[float, ...]
    fault: str | None

    @property
    def most(self) -> float:
        """Turns a second on paper, until the busiest Redis has a core full."""
        return min((1 - idle) * self.turns / seconds for idle, seconds in zip(self.idle, self.servers, strict=True))


async def run_on_cluster(folder: Path, *, rounds: int, conversations: int, tokens: int) -> None:
    """Prints how many times the turns of one Redis a cluster takes; both are asked in turns.

    Args:
        folder: Where files may lie.
        rounds: Each with conversations of its own, so that they fall on other slots.
        conversations: At once.
        tokens: Of each answer.
    """
    with ExitStack() as stack:
        stack.enter_context(pinned())
        pod = MockPod(folder / "pod").start()
        stack.callback(pod.kill)
        one = stack.enter_context(gateway_of(ROOT, folder / "one", pod, name="one Redis"))
        assert one.redis is not None
        two, cluster = stack.enter_context(two_on_a_cluster(folder / "cluster", pod))
        alone, shared = [], []
        for _ in range(rounds):
            alone.append(await shares_of([one], [one.redis], pod, conversations, tokens))
            shared.append(await shares_of(two, cluster.masters, pod, conversations, tokens))
    rows = [_row("one gateway, one Redis", alone), _row("two gateways, three masters", shared)]
    columns = ["", "turns", "CPU ms per turn: gateways", "each Redis", "idle", "turns a second on paper"]
    faults = [f"  {one.fault}" for one in (*alone, *shared) if one.fault]
    title = f"{_WAY}: {conversations} conversations at once, {tokens} tokens each, {rounds} rounds"
    print_table(
        title, columns, rows, [*faults, f"three masters take {ratio_of(alone, shared):.2f} times the turns of one"]
    )


def ratio_of(alone: Sequence[Share], shared: Sequence[Share]) -> float:
    """How many times as many turns the cluster takes, over all rounds: which master is the busiest of one is chance."""
    return _together(shared).most / _together(alone).most


@contextmanager
def two_on_a_cluster(folder: Path, pod: MockPod) -> Iterator[tuple[list[Subject], RedisCluster]]:
    """Two gateways of one installation, on a cluster of their own. Each master has replicas, which it writes to."""
    with ExitStack() as stack:
        folder.mkdir(parents=True)
        cluster = RedisCluster(folder / "redis", RedisOnDisk).start()
        stack.callback(cluster.stop)
        # No two of an installation have other secrets.
        secret_file(folder, "root"), secret_file(folder, "pepper", secrets.token_hex(32))
        gateways: list[Subject] = []
        for number in range(2):
            sections = {
                "vault": {"root_key_file": str(folder / "root")},
                "identity": {"pepper_file": str(folder / "pepper")},
            }
            gateway = CheckoutGateway(f"gateway {number}", folder / str(number), ROOT, cluster, pod, **sections)
            if gateways:
                gateway.key = gateways[0].key
            else:
                gateway.bootstrap()
            stack.callback(gateway.kill)
            gateways.append(gateway.start())
        yield gateways, cluster


async def shares_of(
    gateways: Sequence[Subject], servers: Sequence[RedisServer], pod: MockPod, conversations: int, tokens: int
) -> Share:
    """A few turns of each conversation, at the gateways in turn, after a first one that makes what is made once."""
    pod.pace()
    processes = [*gateways, *servers]
    seats = []
    for number, gateway in enumerate(gateways):
        seats += await open_seats(gateway, _WAY, len(range(number, conversations, len(gateways))))
    try:
        outcomes = await asyncio.gather(*(seat.turn(tokens) for seat in seats))
        await asyncio.sleep(_SETTLE_SECONDS)
        start = _read(processes)
        await asyncio.sleep(_IDLE_SECONDS)
        before = _read(processes)
        for _ in range(_TURNS):
            outcomes += await asyncio.gather(*(seat.turn(tokens) for seat in seats))
        await asyncio.sleep(_SETTLE_SECONDS)
        after = _read(processes)
    finally:
        for seat in seats:
            seat.close()
    idle = [used / (before[0] - start[0]) for used in _less(before, start)[1:]]
    used = [used - (after[0] - before[0]) * rate for used, rate in zip(_less(after, before)[1:], idle, strict=True)]
    own = len(gateways)
    fault = next((one.fault for one in outcomes if one.fault is not None), None)
    return Share(_TURNS * conversations, sum(used[:own]), tuple(used[own:]), tuple(idle[own:]), fault)


def _read(processes: Sequence[Process]) -> list[float]:
    """The clock; and the seconds of the processor that each process took."""
    return [time.perf_counter(), *(cpu_seconds(process.pid) for process in processes)]


def _less(later: Sequence[float], earlier: Sequence[float]) -> list[float]:
    return [one - two for one, two in zip(later, earlier, strict=True)]


def _together(shares: Sequence[Share]) -> Share:
    servers = [sum(one) for one in zip(*(share.servers for share in shares), strict=True)]
    idle = [sum(one) / len(shares) for one in zip(*(share.idle for share in shares), strict=True)]
    turns, gateways = sum(one.turns for one in shares), sum(one.gateways for one in shares)
    return Share(turns, gateways, tuple(servers), tuple(idle), None)


def _row(name: str, shares: Sequence[Share]) -> list[str]:
    all_of_them = _together(shares)
    each = " / ".join(f"{seconds / all_of_them.turns * 1e3:.3f}" for seconds in all_of_them.servers)
    gateways = f"{all_of_them.gateways / all_of_them.turns * 1e3:.2f}"
    idle = " / ".join(f"{share:.1%}" for share in all_of_them.idle)
    return [name, str(all_of_them.turns), gateways, each, idle, f"{all_of_them.most:,.0f}"]
