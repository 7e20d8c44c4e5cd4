"""More is asked of a gateway than it takes: what it accepts is done; the rest waits in turn, or hears when to come."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from prometheus_client import REGISTRY

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import GatewayFixture
from tests.support.sockets import ask, opened, receive, turn
from tests.support.waiting import until, wait_until

PLACES = 20


Client = Callable[[], httpx.AsyncClient]


class ApiKey(NamedTuple):
    """A key of a project."""

    project: str
    id: str
    value: str


@pytest.fixture
def tight(make_gateway: Callable[..., GatewayFixture]) -> GatewayFixture:
    """An installation whose gateways take `PLACES` generations at once, and let 40 of one tenant wait."""
    return make_gateway(
        admission={"most_generations": PLACES, "least_generations": PLACES, "waiting": 80, "wait_seconds": 3600}
    )


@pytest.fixture
def tight_url(tight: GatewayFixture) -> Iterator[str]:
    with tight.serve() as url:
        yield url


@pytest.fixture
def one_place(make_gateway: Callable[..., GatewayFixture]) -> GatewayFixture:
    """The same with one place: requests reach the pod in the order in which they are let go. Of several, neighbours
    may overtake each other."""
    return make_gateway(admission={"most_generations": 1, "least_generations": 1, "waiting": 80, "wait_seconds": 3600})


@pytest.fixture
def one_place_url(one_place: GatewayFixture) -> Iterator[str]:
    with one_place.serve() as url:
        yield url


class Answer(NamedTuple):
    """What an HTTP call gave."""

    status: int
    headers: Mapping[str, str]
    body: Any


def caller(url: str, gateway: GatewayFixture, key: str | None = None) -> Client:
    """Makes a client for each call: the pool of one takes seconds over 300 connections at once."""
    return partial(httpx.AsyncClient, base_url=url, headers=gateway.headers(key), verify=False, timeout=60)


async def asked(http: Client, text: str = "hi", path: str = "/v1/responses") -> Answer:
    """One answer asked for, and waited for."""
    body: dict[str, Any] = {"model": "fake", "input": text}
    if path == "/v1/chat/completions":
        body = {"model": "fake", "messages": [{"role": "user", "content": text}]}
    async with http() as client:
        answer = await client.post(path, json=body)
    return Answer(answer.status_code, answer.headers, answer.json())


def gauge(name: str) -> float:
    """What the gateway says of itself: it is in this process, and so are its gauges."""
    return REGISTRY.get_sample_value(name) or 0.0


def waits(requests: int) -> bool:
    """Whether so many requests wait for a place."""
    return gauge("cloister_generations_waiting") == requests


@contextlib.contextmanager
def administration(url: str, gateway: GatewayFixture) -> Iterator[Any]:
    """The SDK's part for projects."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", admin_api_key=gateway.admin_key, max_retries=0) as admin:
        yield admin.admin.organization.projects


def new_tenant(url: str, gateway: GatewayFixture) -> ApiKey:
    """The key of a new project."""
    with administration(url, gateway) as projects:
        project = projects.create(name="other").id
        key = projects.service_accounts.create(project, name="bot").api_key
    return ApiKey(project, key.id, key.value)


def revoke(url: str, gateway: GatewayFixture, key: ApiKey) -> None:
    with administration(url, gateway) as projects:
        projects.api_keys.delete(key.id, project_id=key.project)


def words(llm: FakeLlm) -> Sequence[str]:
    """What the pod was asked, in the order in which it was."""
    return [chat["messages"][-1]["content"] for chat in llm.chats()]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
async def test_none_that_was_accepted_fails_and_the_rest_is_told_at_once_when_to_come(
    tight: GatewayFixture, tight_url: str, llm: FakeLlm, path: str
) -> None:
    llm.hold_after = 0
    refused_after: list[float] = []

    async def one(http: Client, began: float) -> Answer:
        answer = await asked(http, path=path)
        if answer.status == 429:
            refused_after.append(time.monotonic() - began)
        return answer

    http = caller(tight_url, tight)
    tasks = [asyncio.create_task(one(http, time.monotonic())) for _ in range(300)]
    await until(lambda: len(refused_after) == 300 - PLACES - 40, what="all over the bound are refused")
    await until(lambda: llm.running == PLACES, what="all places are taken")
    llm.release()
    answers = await asyncio.gather(*tasks)
    assert llm.most_running == PLACES, "never more at once than there are places"
    accepted = [answer for answer in answers if answer.status == 200]
    assert len(accepted) == PLACES + 40
    for refusal in (answer for answer in answers if answer.status != 200):
        assert refusal.status == 429
        assert 1 <= int(refusal.headers["retry-after"]) <= 60
        assert refusal.body["error"]["code"] == "server_overloaded"


async def test_those_who_wait_come_in_order_and_two_tenants_take_turns(
    one_place: GatewayFixture, one_place_url: str, llm: FakeLlm
) -> None:
    other = await asyncio.to_thread(new_tenant, one_place_url, one_place)
    llm.hold_after = 0
    tenants = {"mine": caller(one_place_url, one_place), "theirs": caller(one_place_url, one_place, other.value)}
    async with asyncio.TaskGroup() as group:
        group.create_task(asked(tenants["mine"], "first"))
        await until(lambda: llm.running == 1, what="the place is taken")
        for already, text in enumerate(f"{name} {number}" for name in tenants for number in range(10)):
            group.create_task(asked(tenants[text.split()[0]], text))
            await until(partial(waits, already + 1), what="it waits")
        llm.release()
    waited = words(llm)[1:]
    assert len(waited) == 20
    for tenant in tenants:
        assert [text for text in waited if text.startswith(tenant)] == [f"{tenant} {number}" for number in range(10)]
        assert 3 <= sum(text.startswith(tenant) for text in waited[:10]) <= 7, "in turns"


async def test_caller_that_leaves_the_queue_leaves_nothing_behind(
    tight: GatewayFixture, tight_url: str, llm: FakeLlm
) -> None:
    llm.hold_after = 0
    http = caller(tight_url, tight)
    async with asyncio.TaskGroup() as group:
        for _ in range(PLACES):
            group.create_task(asked(http))
        await until(lambda: llm.running == PLACES, what="all places are taken")
        impatient = [asyncio.create_task(asked(http, "impatient", "/v1/chat/completions")) for _ in range(10)]
        patient = group.create_task(asked(http, "patient"))
        await until(partial(waits, 11), what="all wait")
        for task in impatient:
            task.cancel()
        await until(partial(waits, 1), what="those who left wait no more")
        llm.release()
    assert patient.result().status == 200
    assert "impatient" not in words(llm)


async def test_caller_whose_key_is_revoked_waits_no_more(tight: GatewayFixture, tight_url: str, llm: FakeLlm) -> None:
    other = await asyncio.to_thread(new_tenant, tight_url, tight)
    llm.hold_after = 0
    http, gone = caller(tight_url, tight), caller(tight_url, tight, other.value)
    async with asyncio.TaskGroup() as group:
        for _ in range(PLACES):
            group.create_task(asked(http))
        await until(lambda: llm.running == PLACES, what="all places are taken")
        revoked = group.create_task(asked(gone))
        await until(partial(waits, 1), what="it waits")
        await asyncio.to_thread(revoke, tight_url, tight, other)
        assert (await revoked).status == 401
        await until(partial(waits, 0), what="it waits no more")
        llm.release()


def test_socket_is_told_by_an_event_and_goes_on(make_gateway: Callable[..., GatewayFixture], llm: FakeLlm) -> None:
    gateway = make_gateway(admission={"most_generations": 1, "least_generations": 1, "waiting": 1})
    llm.hold_after = 0
    with gateway.serve() as url, opened(url, gateway) as busy, opened(url, gateway) as socket:
        ask(busy)
        assert receive(busy)["type"] == "response.created"
        ask(socket, stream_id="waits")
        ask(socket, stream_id="refused")
        refusal = receive(socket)
        assert (refusal["type"], refusal["status"], refusal["stream_id"]) == ("error", 429, "refused")
        assert refusal["error"]["code"] == "server_overloaded"
        assert int(refusal["headers"]["retry-after"]) >= 1
        llm.release()
        assert turn(socket)[-1]["type"] == "response.completed", "the one that waited"
        ask(socket)
        assert turn(socket)[-1]["type"] == "response.completed"


def test_background_run_holds_its_place_when_its_request_has_long_ended(
    make_gateway: Callable[..., GatewayFixture], llm: FakeLlm
) -> None:
    gateway = make_gateway(admission={"most_generations": 1, "least_generations": 1, "waiting": 0})
    llm.hold_after = 0
    with gateway.serve() as url:
        client = sdk(url, gateway)
        made = client.responses.create(model="fake", input="hi", background=True)
        with pytest.raises(openai.RateLimitError):
            client.responses.create(model="fake", input="hi")
        assert client.responses.retrieve(made.id).status == "in_progress", "reading needs no place"
        client.responses.cancel(made.id)
        llm.release()
        wait_until(lambda: gauge("cloister_generations") == 0, what="the run has given its place back")
        assert client.responses.create(model="fake", input="hi").status == "completed"
