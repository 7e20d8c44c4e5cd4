"""Breaks things, by the dice, and mends them."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable

from tests.e2e.histories.site import Site
from tests.support.process import Process
from tests.support.tcp_proxy import TcpProxy

__all__ = ["Nemesis"]

Fault = Callable[[float], Awaitable[None]]

_LONGEST_PAUSE_SECONDS = 7.0
"""Longer than a lease: who wakes up then was declared dead."""


class Nemesis:
    """Breaks a site.

    Args:
        site: What it breaks.
        choices: Decides what and when.
        only: The first word of the faults it knows; all without one.

    Attributes:
        deeds: What it did when, for messages.
    """

    def __init__(self, site: Site, choices: random.Random, *, only: str = "") -> None:
        self._site = site
        self._only = only
        self._choices = choices
        self._busy: set[int] = set()
        self._begun = time.monotonic()
        self.deeds: list[str] = []

    async def run(self, until: float) -> None:
        """Breaks one thing after another, and sometimes several at once, until ``until`` (monotonic seconds); mends
        all of them."""
        self._begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < until:
                await asyncio.sleep(self._choices.uniform(0.2, 1.5))
                group.create_task(self._break_one(until))
        for network in self._site.networks:
            await network.heal()

    async def _break_one(self, until: float) -> None:
        faults = [fault for fault in self._faults() if fault[0].startswith(self._only)]
        name, victim, fault, longest = self._choices.choice(faults)
        seconds = min(self._choices.uniform(0.05, longest), max(0.05, until - time.monotonic()))
        if id(victim) in self._busy:
            return
        self._busy.add(id(victim))
        self.deeds.append(f"{time.monotonic() - self._begun:6.2f} s: {name} for {seconds:.2f} s")
        try:
            await fault(seconds)
        finally:
            self._busy.discard(id(victim))

    def _faults(self) -> list[tuple[str, object, Fault, float]]:
        faults: list[tuple[str, object, Fault, float]] = []
        for number, gateway in enumerate(self._site.gateways):
            faults.append((f"kill gateway {number}", gateway, _killed(gateway), 2.0))
            faults.append((f"stop gateway {number}", gateway, _stopped(gateway), _LONGEST_PAUSE_SECONDS))
        for number, pod in enumerate(self._site.pods):
            faults.append((f"kill pod {number}", pod, _killed(pod), 1.0))
            faults.append((f"stop pod {number}", pod, _stopped(pod), 3.0))
        faults.append(("kill Redis", self._site.redis, _killed(self._site.redis), 1.5))
        faults.append(("unplug Redis", self._site.redis, _unplugged(self._site), 1.5))
        faults.append(("stop Redis", self._site.redis, _stopped(self._site.redis), 4.0))
        for number, network in enumerate(self._site.networks):
            faults.append((f"cut network {number}", network, _cut(network), 0.1))
            faults.append((f"slow network {number}", network, _with(network, delay_seconds=0.3), 2.0))
            faults.append((f"no way to Redis {number}", network, _with(network, silent_to_target=True), 4.0))
            faults.append((f"no way from Redis {number}", network, _with(network, silent_to_caller=True), 4.0))
        return faults


def _unplugged(site: Site) -> Fault:
    """The power of its machine fails: what it had not synced is gone."""

    async def fault(seconds: float) -> None:
        await asyncio.to_thread(site.redis.kill)
        await asyncio.to_thread(site.disk.cut_power)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(site.redis.start)

    return fault


def _killed(process: Process) -> Fault:
    async def fault(seconds: float) -> None:
        await asyncio.to_thread(process.kill)
        await asyncio.sleep(seconds)
        # A gateway does not start without Redis.
        for attempt in range(5):
            try:
                await asyncio.to_thread(process.start)
                return
            except AssertionError:
                if attempt == 4:
                    raise

    return fault


def _stopped(process: Process) -> Fault:
    async def fault(seconds: float) -> None:
        os.kill(process.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(process.pid, signal.SIGCONT)

    return fault


def _cut(network: TcpProxy) -> Fault:
    async def fault(seconds: float) -> None:
        await network.cut()
        await asyncio.sleep(seconds)

    return fault


def _with(network: TcpProxy, *, delay_seconds: float = 0.0, **silent: bool) -> Fault:
    async def fault(seconds: float) -> None:
        network.delay_seconds = delay_seconds
        for name, value in silent.items():
            setattr(network, name, value)
        await asyncio.sleep(seconds)
        await network.heal()

    return fault
