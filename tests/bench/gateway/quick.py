"""One way, in under 30 seconds: what a change costs or saves, against another checkout where one is given."""

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench.gateway.costs import Load, PlainCost, StreamCost, median_cost, plain_cost, stream_cost
from tests.bench.gateway.subjects import ROOT, MockPod, gateway_of, pinned
from tests.bench.gateway.table import print_table

__all__ = ["plain_table", "run_quick", "stream_table"]


async def run_quick(way: str, *, against: Path | None, rounds: int, load: Load) -> None:
    """Measures ``way`` on the gateway of this checkout, and on that of another in turns, and prints a table."""
    with ExitStack() as stack:
        stack.enter_context(pinned())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pod = MockPod(folder / "pod").start()
        stack.callback(pod.kill)
        subjects = [stack.enter_context(gateway_of(ROOT, folder / "new", pod, name="this checkout"))]
        if against is not None:
            other = gateway_of(against.resolve(), folder / "old", pod, name=str(against))
            subjects.insert(0, stack.enter_context(other))
        if way == "chat":
            plain: dict[str, list[PlainCost]] = {subject.name: [] for subject in subjects}
            for _ in range(rounds):
                for subject in subjects:
                    plain[subject.name].append(await plain_cost(subject, pod, load))
            plain_table(plain, load)
        else:
            streamed: dict[str, list[StreamCost]] = {subject.name: [] for subject in subjects}
            for _ in range(rounds):
                for subject in subjects:
                    streamed[subject.name].append(await stream_cost(subject, pod, way, load))
            stream_table(way, streamed, load)


def plain_table(costs: dict[str, list[PlainCost]], load: Load) -> None:
    """Prints what plain chat costs."""
    rows = []
    for name, rounds in costs.items():
        used = median_cost([cost.request for cost in rounds])
        rate = statistics.median(cost.per_second for cost in rounds)
        cells = [f"{rate:,.0f}", f"{1 / used.cpu:,.0f}", f"{used.cpu * 1e6:,.0f}", _failed(rounds)]
        rows.append([name, *cells])
    columns = ["plain chat", "req/s", "req per CPU s", "CPU µs per request", "failed"]
    print_table(f"{load.connections} connections, medians of {len(rounds)} rounds", columns, rows, _faults(costs))


def stream_table(way: str, costs: dict[str, list[StreamCost]], load: Load) -> None:
    """Prints what a way of streams costs."""
    rows = []
    for name, rounds in costs.items():
        token, turn, whole, trips, held = (
            median_cost([getattr(cost, part) for cost in rounds])
            for part in ("token", "turn", "whole", "trips", "held")
        )
        alone, together = (
            statistics.median(getattr(cost, part) for cost in rounds) for part in ("first_alone", "first_together")
        )
        rows.append(
            [
                name,
                f"{token.cpu * 1e6:.0f} + {token.redis_cpu * 1e6:.0f}",
                f"{whole.cpu * 1e6:.0f} + {whole.redis_cpu * 1e6:.0f}",
                f"{turn.cpu * 1e3:.2f} + {turn.redis_cpu * 1e3:.2f}",
                f"{trips.trips:.0f} / {trips.commands:.0f} / {trips.scripts:.1f} / {trips.syncs:.1f}",
                f"{held.trips:.0f} / {held.syncs:.0f}",
                f"{alone * 1e3:.1f} / {together * 1e3:.0f}",
                _failed(rounds),
            ]
        )
    columns = [
        way,
        "CPU µs per token",
        "with its turn",
        "CPU ms per turn",
        "trips/commands/scripts/syncs",
        "before the model",
        "first token ms alone/together",
        "failed",
    ]
    title = (
        f"{way}: {load.streams} streams of {load.tokens_per_second:g} tokens a second, {load.short} and {load.long} "
        f"tokens long; CPU as gateway + Redis; medians of {len(rounds)} rounds"
    )
    print_table(title, columns, rows, _faults(costs))


def _failed(rounds: Sequence[PlainCost | StreamCost]) -> str:
    return str(sum(cost.failed for cost in rounds))


def _faults(costs: dict[str, list[PlainCost]] | dict[str, list[StreamCost]]) -> list[str]:
    found = ((name, cost.fault) for name, rounds in costs.items() for cost in rounds)
    return [f"  {name}: {fault}" for name, fault in found if fault is not None]
