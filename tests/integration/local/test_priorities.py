"""One model that computes flat out on every core costs nobody else their turn.

The runner starts the very Redis and gateway of `make run`, and in the model's place, with the model's priority, more
processes that never rest than there are cores.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from cloister_common.disk import DiskFloor
from cloister_common.settings import load_settings
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import free_port, served
from cloister_gateway.settings import GatewaySettings
from openai import AsyncOpenAI

from deploy.local import preflight
from deploy.local.config import Layout, render
from deploy.local.disk import RedisGuard
from deploy.local.keys import ensure_secrets
from deploy.local.parts import Part, parts
from deploy.local.process import Watchdog
from deploy.local.readiness import http_probe
from deploy.local.runner import Runner
from deploy.local.settings import LocalSettings, Ports, load_local_settings
from tests.support.gateway import first_keys

DEADLINE_SECONDS = 120.0
TURNS = 24
ROUNDS = 3
"""Who does not get the processor shows it in each of them; a machine, or a disk, that stands still, in one."""
SIGNS = ["run_adopted", "run_deposed", "run_interrupted", '"status": 503', "bus_disconnected"]
AT_ONCE = 4
BURNERS = f"""
import os
for _ in range({2 * (os.cpu_count() or 1)} - 1):
    if os.fork() == 0:
        break
while True:
    pass
"""


class Installation:
    """Settings, secrets and parts as `make run` makes them, in a folder, on free ports."""

    def __init__(self, folder: Path) -> None:
        override = folder / "mine.yaml"
        ports = {name: free_port() for name in Ports.model_fields}
        override.write_text(f"ports: {ports}\n")
        self.settings: LocalSettings = load_local_settings(override)
        self.layout = Layout(folder / "var")
        for name in ("redis", "milvus", "blobs"):
            self.layout.data(name).mkdir(parents=True)
        ensure_secrets(self.layout.secrets)
        render(self.settings, self.layout)
        self.password = self.secret("redis-password")
        floor = DiskFloor(self.layout.data("redis"), self.settings.disk.min_free_mib)
        self.guard = RedisGuard(floor, self.settings.ports.redis, self.password, print)
        self.parts = {part.name: part for part in parts(self.settings, self.layout, self.guard)}

    def secret(self, name: str) -> str:
        return (self.layout.secrets / name).read_text().strip()

    @property
    def gateway_settings(self) -> GatewaySettings:
        return load_settings(GatewaySettings, self.layout.config / "gateway.yaml")

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.ports.gateway}"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


@pytest.fixture
def llm(installation: Installation) -> Iterator[FakeLlm]:
    """What answers at the model's address, at the priority of the test."""
    fake = FakeLlm(model=installation.settings.chat_model.name, token=installation.secret("llm-token"))
    fake.answer = [f" word{number}" for number in range(50)]
    with served(fake, installation.settings.ports.llm):
        yield fake


def test_what_computes_stands_back_behind_the_door_and_the_state(installation: Installation) -> None:
    nice = {name: part.nice for name, part in installation.parts.items()}
    assert nice["gateway"] == nice["redis"] == 0
    assert min(nice["llm"], nice["embedder"]) > max(nice["retriever"], nice["milvus"]) > 0


async def test_turns_go_on_while_a_model_takes_every_core(
    tmp_path: Path, installation: Installation, llm: FakeLlm
) -> None:
    async def at_once() -> str | None:
        return None

    ready = asyncio.Event()

    async def when_ready() -> None:
        ready.set()

    # The door is not ready without the other services; here it only has to be open.
    door = replace(installation.parts["gateway"], probe=http_probe(f"{installation.gateway_url}/livez"))
    model = replace(installation.parts["llm"], command=[sys.executable, "-c", BURNERS], probe=at_once)
    run: list[Part] = [installation.parts["redis"], model, door]
    with preflight.lock(tmp_path) as lock:
        watchdog = Watchdog(lock)
        runner = Runner(
            installation.settings,
            run,
            record=tmp_path / "run.json",
            watchdog=watchdog,
            when_ready=when_ready,
            say=print,
        )
        running = asyncio.create_task(runner.run())
        try:
            await asyncio.wait_for(ready.wait(), DEADLINE_SECONDS)
            keys = await asyncio.to_thread(first_keys, installation.gateway_settings)
            signs = SIGNS
            for _ in range(ROUNDS):
                before = len(door.log.read_bytes())
                await _take_turns(installation, keys.project_key)
                log = door.log.read_bytes()[before:].decode()
                signs = [sign for sign in SIGNS if sign in log]
                if not signs:
                    break
        finally:
            runner._stop.set()
            await asyncio.wait_for(running, DEADLINE_SECONDS)
            watchdog.close()
    assert signs == []


async def _take_turns(installation: Installation, key: str) -> None:
    """Several at a time, each streamed to its end; a 503 or a cut stream is an error of the SDK."""
    client = AsyncOpenAI(
        base_url=f"{installation.gateway_url}/v1", api_key=key, max_retries=0, timeout=DEADLINE_SECONDS
    )
    at_once = asyncio.Semaphore(AT_ONCE)
    model = installation.settings.chat_model.name

    async def turn() -> str:
        async with at_once:
            stream: Any = await client.responses.create(model=model, input="Tell me a story.", stream=True)
            events = [event async for event in stream]
            assert events[-1].type == "response.completed", events[-1]
            return str(events[-1].response.id)

    async with client:
        ids = await asyncio.gather(*(turn() for _ in range(TURNS)))
    with redis.Redis(port=installation.settings.ports.redis, password=installation.password) as state:
        taken = [state.hget(f"resp:{{{response_id}}}", "taken") for response_id in ids]
    assert taken == [None] * TURNS
