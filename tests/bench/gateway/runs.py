"""The subjects of one run, and what is asked of them in turns."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.bench.gateway.cost_tables import plain_table, stream_table
from tests.bench.gateway.costs import Load, PlainCost, StreamCost, plain_cost, stream_cost
from tests.bench.gateway.history import ITEMS, Past, history_table, past_of
from tests.bench.gateway.overload import Stand, overload_table, stand_of
from tests.bench.gateway.peers import REFERENCES, peers_of
from tests.bench.gateway.sockets import (
    PACES,
    WATCHERS,
    FanOut,
    Idle,
    fan_out_of,
    fan_out_table,
    idle_of,
    idle_table,
)
from tests.bench.gateway.subjects import ROOT, MockPod, Subject, gateway_of, pinned

__all__ = ["Bench"]


class Bench:
    """Starts what is measured; used as a context manager.

    Args:
        load: What a round asks for.
        against: Another checkout whose gateway is measured too.
        peers: Whether peers are.
    """

    def __init__(self, load: Load, *, against: Path | None = None, peers: bool = False) -> None:
        self._load = load
        self._against = against
        self._peers = peers
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(pinned())
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self._pod = MockPod(folder / "pod").start()
            stack.callback(self._pod.kill)
            self._gateways = []
            if self._against is not None:
                checkout = self._against.resolve()
                other = gateway_of(checkout, folder / "other", self._pod, name=str(self._against))
                self._gateways.append(stack.enter_context(other))
            own = gateway_of(ROOT, folder / "own", self._pod, name="this checkout")
            self._gateways.append(stack.enter_context(own))
            self._all: list[Subject] = list(self._gateways)
            if self._peers:
                self._all += stack.enter_context(peers_of(folder / "peers", self._pod))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def ways(self, ways: Sequence[str], *, rounds: int) -> None:
        """What each way costs, for everyone who can be asked in it."""
        plain: dict[str, list[PlainCost]] = {}
        streamed: dict[str, dict[str, list[StreamCost]]] = {way: {} for way in ways if way != "chat"}
        for _ in range(rounds):
            for way in ways:
                for subject in self._all:
                    if subject.ways is not None and way not in subject.ways:
                        continue
                    if way == "chat":
                        plain.setdefault(subject.name, []).append(await plain_cost(subject, self._pod, self._load))
                    else:
                        cost = await stream_cost(subject, self._pod, way, self._load)
                        streamed[way].setdefault(subject.name, []).append(cost)
        if plain:
            plain_table(plain, self._load)
        for way, costs in streamed.items():
            stream_table(way, costs, self._load)
        if self._peers:
            print("\n".join(REFERENCES))

    async def overload(self, way: str, streams: Sequence[int]) -> None:
        """What becomes of so many streams, of each gateway."""
        found: dict[str, list[Stand]] = {subject.name: [] for subject in self._gateways}
        for asked in streams:
            for subject in self._gateways:
                found[subject.name].append(await stand_of(subject, self._pod, way, asked))
        overload_table(way, found)

    async def history(self) -> None:
        """What a turn costs after so many items, of each gateway."""
        found: dict[str, list[Past]] = {subject.name: [] for subject in self._gateways}
        for items in ITEMS:
            for subject in self._gateways:
                found[subject.name].append(await past_of(subject, self._pod, items))
        history_table(found)

    async def sockets(self) -> None:
        """What watchers and idle sockets cost, of each gateway."""
        # First, since what watchers needed would be there for idle ones to use.
        idle: dict[str, Idle] = {subject.name: await idle_of(subject) for subject in self._gateways}
        idle_table(idle)
        watched: dict[str, list[FanOut]] = {subject.name: [] for subject in self._gateways}
        for rate, tokens in PACES:
            for watchers in WATCHERS:
                for subject in self._gateways:
                    watched[subject.name].append(await fan_out_of(subject, self._pod, watchers, rate, tokens))
        fan_out_table(watched)
