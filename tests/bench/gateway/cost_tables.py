"""How what `costs` measured is printed."""

import statistics
from collections.abc import Sequence

from tests.bench.gateway.costs import Load, PlainCost, StreamCost, median_cost
from tests.bench.gateway.table import print_table

__all__ = ["plain_table", "stream_table"]


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
        "before the first token",
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
