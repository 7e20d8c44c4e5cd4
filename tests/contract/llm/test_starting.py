"""A pod that starts, in vLLM's place the process that answers meanwhile, and its fake: alike in all that is read."""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_gateway.models.connections import PodClient
from cloister_gateway.models.pods import Pod
from cloister_gateway.models.waking.looking import Looking

from tests.support.gateway import INTERNAL_TOKEN
from tests.support.llm_herald import RunningHerald
from tests.support.waiting import until


@dataclass(frozen=True)
class Starting:
    """A pod whose model loads; ``source`` has its phase."""

    url: str
    token: str
    source: RunningHerald | FakeLlm

    def reach(self, phase: Any) -> None:
        if isinstance(self.source, FakeLlm):
            self.source.phase = phase
        else:
            self.source.note(phase)


@pytest.fixture(params=["real", "fake"])
def starting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Starting]:
    with ExitStack() as stack:
        if request.param == "fake":
            fake = FakeLlm(token=INTERNAL_TOKEN, phase="loading")
            yield Starting(stack.enter_context(served(fake)), INTERNAL_TOKEN, fake)
        else:
            herald = RunningHerald(tmp_path)
            stack.callback(herald.kill)
            yield Starting(herald.url, herald.token, herald)


@pytest.mark.parametrize("phase", ["loading", "compiling"])
async def test_a_gateway_sees_the_phase_of_a_pod_that_starts(starting: Starting, phase: str) -> None:
    starting.reach(phase)
    client = PodClient({"authorization": f"Bearer {starting.token}"}, ssl.create_default_context(), connect_seconds=60)
    looking, pod = Looking(client), Pod(starting.url)

    async def is_seen() -> bool:
        return await looking.phase([], [pod], begun=True) == phase

    try:
        # (What answers nobody within two seconds, as in the middle of its own start, has said nothing.)
        await until(is_seen)
    finally:
        await client.close()


async def test_a_stranger_learns_that_it_is_not_ready_and_no_more(starting: Starting) -> None:
    starting.reach("compiling")
    known = {"authorization": f"Bearer {starting.token}"}
    async with httpx.AsyncClient(base_url=starting.url, timeout=60) as client:
        told = (await client.get("/readyz", headers=known)).json()
        assert set(told) == {"error", "phase"}
        for method, path, headers in (
            ("GET", "/readyz", {}),
            ("GET", "/health", known),
            ("GET", "/livez", known),
            ("POST", "/v1/chat/completions", known),
        ):
            refused = await client.request(method, path, headers=headers)
            assert (refused.status_code, refused.json()) == (503, {"error": told["error"]})
