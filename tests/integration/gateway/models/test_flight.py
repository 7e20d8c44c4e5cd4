"""More is asked of a model than its pods hold: who is served next, who is told when to come, and what is left behind.

The pod says that it computes so few requests at once; the gateways are in this process, and so are their gauges.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_gateway.models.flight import _BOUND
from prometheus_client import REGISTRY

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import GatewayFixture
from tests.support.sockets import opened, receive, send
from tests.support.waiting import until, wait_until

AT_ONCE = 4
MODEL = "narrow"

Ask = Callable[..., Coroutine[Any, Any, httpx.Response]]


def waiting(work: str = "interactive") -> float:
    return REGISTRY.get_sample_value("cloister_llm_waiting", {"model": MODEL, "work": work}) or 0.0


@pytest.fixture
def make_narrow(
    make_gateway: Callable[..., GatewayFixture], llm: FakeLlm, llm_url: str
) -> Callable[..., GatewayFixture]:
    """Makes an installation with a model whose pod computes `AT_ONCE` requests at once, and holds them for now."""

    def make(**admission: Any) -> GatewayFixture:
        llm.capacity = (AT_ONCE * 1000, AT_ONCE)
        llm.hold_after = 0
        entry = {"urls": [llm_url], "context_tokens": 2048, "default_output_tokens": 100}
        return make_gateway(models={MODEL: entry}, admission=admission)

    return make


@pytest.fixture
def serve(make_narrow: Callable[..., GatewayFixture]) -> Iterator[Callable[..., tuple[str, GatewayFixture]]]:
    """Serves a gateway of it that has heard what the pod holds."""
    running = []

    def start(**admission: Any) -> tuple[str, GatewayFixture]:
        gateway = make_narrow(**admission)
        served = gateway.serve()
        running.append(served)
        _BOUND.labels(MODEL).set(0)  # what a gateway before it has heard
        url = served.__enter__()
        heard = partial(REGISTRY.get_sample_value, "cloister_llm_tokens_bound", {"model": MODEL})
        wait_until(lambda: heard() == AT_ONCE * 1000, what="the gateway has heard what the pod holds")
        return url, gateway

    yield start
    for served in running:
        served.__exit__(None, None, None)


def caller(url: str, gateway: GatewayFixture, key: str | None = None) -> Ask:
    async def ask(text: str, path: str = "/v1/chat/completions", **fields: Any) -> httpx.Response:
        body = {"model": MODEL, **fields}
        body |= {"input": text} if path == "/v1/responses" else {"messages": [{"role": "user", "content": text}]}
        async with httpx.AsyncClient(base_url=url, headers=gateway.headers(key), timeout=60) as client:
            return await client.post(path, json=body)

    return ask


def stranger(url: str, gateway: GatewayFixture) -> str:
    """The key of another project."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", admin_api_key=gateway.admin_key, max_retries=0) as admin:
        projects = admin.admin.organization.projects
        account = projects.service_accounts.create(projects.create(name="other").id, name="bot")
    assert account.api_key is not None
    return account.api_key.value


def texts(llm: FakeLlm) -> list[str]:
    """What the pod was asked, in the order in which it was."""
    return [chat["messages"][-1]["content"] for chat in llm.chats()]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_another_tenant_does_not_wait_for_a_flood_to_end(
    serve: Callable[..., tuple[str, GatewayFixture]], llm: FakeLlm, path: str
) -> None:
    url, gateway = await asyncio.to_thread(serve)
    mine, theirs = caller(url, gateway), caller(url, gateway, await asyncio.to_thread(stranger, url, gateway))
    async with asyncio.TaskGroup() as group:
        flood = [group.create_task(mine(f"flood {number}", path)) for number in range(20)]
        await until(lambda: waiting() == 20 - AT_ONCE, what="the flood waits")
        other = [group.create_task(theirs(f"other {number}", path)) for number in range(3)]
        await until(lambda: waiting() == 20 - AT_ONCE + 3, what="the other waits too")
        llm.release()
    assert {task.result().status_code for task in (*flood, *other)} == {200}
    assert llm.most_running == AT_ONCE, "no more than the pod holds"
    order = [text.split()[0] for text in texts(llm)]
    # Each of the other's comes with the next of the flood; several begin at once, so that neighbours may change places.
    last = max(at for at, name in enumerate(order) if name == "other")
    assert last < AT_ONCE + 2 * 3 + AT_ONCE, order


async def test_background_runs_wait_behind_what_somebody_waits_for(
    serve: Callable[..., tuple[str, GatewayFixture]], llm: FakeLlm
) -> None:
    url, gateway = await asyncio.to_thread(serve)
    mine = caller(url, gateway)
    async with asyncio.TaskGroup() as group:
        for number in range(AT_ONCE):
            group.create_task(mine(f"first {number}"))
        await until(lambda: llm.running == AT_ONCE, what="the pod has what it holds")
        for number in range(3):
            answer = await mine(f"background {number}", "/v1/responses", background=True)
            assert answer.status_code == 200
        await until(lambda: waiting("background") == 3, what="they wait")
        for number in range(5):
            group.create_task(mine(f"interactive {number}"))
        await until(lambda: waiting() == 5, what="those wait that are waited for")
        llm.release()
    await until(lambda: len(texts(llm)) == AT_ONCE + 8, what="all are served")
    order = [text.split()[0] for text in texts(llm)[AT_ONCE:]]
    assert sum(name == "interactive" for name in order[:5]) >= 4, order


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_those_for_whom_there_is_no_room_hear_how_many_wait_and_when_to_come(
    serve: Callable[..., tuple[str, GatewayFixture]], llm: FakeLlm, path: str
) -> None:
    url, gateway = await asyncio.to_thread(serve, model_waiting=6)
    mine = caller(url, gateway)
    async with asyncio.TaskGroup() as group:
        accepted = [group.create_task(mine(f"one {number}", path)) for number in range(AT_ONCE)]
        await until(lambda: llm.running == AT_ONCE, what="the pod has what it holds")
        for number in range(3):
            accepted.append(group.create_task(mine(f"two {number}", path)))
            await until(partial(_waits, number + 1), what="it waits")
        refused = await mine("three", path)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        error = refused.json()["error"]
        assert error["code"] == "server_overloaded"
        assert f"'{MODEL}'" in error["message"]
        assert "3 requests wait for them, 3 of them yours" in error["message"]
        llm.release()
    assert {task.result().status_code for task in accepted} == {200}
    assert "three" not in texts(llm)


def _waits(requests: int) -> bool:
    return waiting() == requests


async def test_who_leaves_the_queue_leaves_nothing_behind(
    serve: Callable[..., tuple[str, GatewayFixture]], llm: FakeLlm
) -> None:
    url, gateway = await asyncio.to_thread(serve)
    mine = caller(url, gateway)
    async with asyncio.TaskGroup() as group:
        for number in range(AT_ONCE):
            group.create_task(mine(f"first {number}"))
        await until(lambda: llm.running == AT_ONCE, what="the pod has what it holds")
        impatient = [asyncio.create_task(mine("impatient", stream=stream)) for stream in (True, False) * 3]
        patient = group.create_task(mine("patient"))
        await until(lambda: waiting() == 7, what="all wait")
        for task in impatient:
            task.cancel()
        await until(lambda: waiting() == 1, what="those who left wait no more")
        llm.release()
    assert patient.result().status_code == 200
    assert "impatient" not in texts(llm)
    tokens = partial(REGISTRY.get_sample_value, "cloister_llm_tokens_in_flight", {"model": MODEL})
    await until(lambda: tokens() == 0, what="nothing is under way")


async def test_those_who_wait_for_their_model_keep_no_place_from_others(
    serve: Callable[..., tuple[str, GatewayFixture]], llm: FakeLlm
) -> None:
    url, gateway = await asyncio.to_thread(serve, most_generations=AT_ONCE + 1, least_generations=1, waiting=0)
    mine = caller(url, gateway)
    async with asyncio.TaskGroup() as group:
        for number in range(AT_ONCE + 6):
            group.create_task(mine(f"first {number}"))
            await until(partial(_under_way, llm, number + 1), what="it is served or waits")
        assert (await mine("x", "/v1/responses", background=True)).status_code == 200
        llm.release()


def _under_way(llm: FakeLlm, requests: int) -> bool:
    return llm.running + waiting() == requests


def test_watchers_of_a_run_that_waits_see_that_it_is_queued(
    serve: Callable[..., tuple[str, GatewayFixture]], llm: FakeLlm
) -> None:
    url, gateway = serve()
    client = sdk(url, gateway)
    first = [client.responses.create(model=MODEL, input="x", background=True) for _ in range(AT_ONCE)]
    wait_until(lambda: llm.running == AT_ONCE, what="the pod has what it holds")
    with opened(url, gateway) as socket:
        send(socket, "response.create", model=MODEL, input="hi")
        *_, queued = events = [receive(socket) for _ in range(3)]
        seen = [event["type"] for event in events]
        assert seen == ["response.created", "response.in_progress", "response.queued"]
        llm.release()
        while seen[-1] != "response.completed":
            seen.append(receive(socket)["type"])
    assert seen[3] == "response.in_progress"
    assert queued["queue"] == {"position": 1, "phase": "ready"}
    for response in first:
        wait_until(partial(_has_ended, client, response.id), what="it ends")


def _has_ended(client: Any, response: str) -> bool:
    return bool(client.responses.retrieve(response).status == "completed")
