"""A pod that may sleep: only for who has the token, never while it computes, and refusing what needs it awake."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from cloister_llm.guard.middleware import Guard
from cloister_llm.settings import LlmSettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.support.waiting import until
from tests.unit.llm.guarded import TOKEN, USER, lifespan

CHAT = {"model": "m", "messages": [USER]}
TEXT = {"model": "m", "prompt": "a"}


class Engine:
    """What vLLM's engine was asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.computing = 0
        self.may_wake = asyncio.Event()
        self.may_wake.set()

    async def sleep(self, level: int = 1) -> None:
        self.asked.append(level)

    async def wake_up(self, tags: list[str] | None = None) -> None:
        self.asked.append(tags)
        await self.may_wake.wait()

    async def collective_rpc(self, method: str) -> None:
        self.asked.append(method)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def may_answer() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def make_client(
    make_settings: Callable[..., LlmSettings],
    engine: Engine,
    may_answer: asyncio.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    async def answer(request: Request) -> JSONResponse:
        engine.computing += 1
        await may_answer.wait()
        return JSONResponse({})

    async def at_once(request: Request) -> JSONResponse:
        return JSONResponse({})

    async def make(**sections: Any) -> httpx.AsyncClient:
        app = Starlette(
            routes=[
                Route("/v1/chat/completions", answer, methods=["POST"]),
                Route("/tokenize", at_once, methods=["POST"]),
                Route("/health", at_once),
            ]
        )
        app.state.engine_client = engine
        guard = Guard(app, make_settings(**sections), prepare=lambda *_: None)
        monkeypatch.setattr(guard.drain, "on_signals", lambda stop: None)
        await lifespan(guard)

        async def inside(scope: Any, receive: Any, send: Any) -> None:
            await guard({**scope, "app": app}, receive, send)

        return httpx.AsyncClient(transport=httpx.ASGITransport(inside), base_url="http://llm", headers=TOKEN)

    return make


@pytest.fixture
async def client(make_client: Callable[..., Any]) -> AsyncIterator[httpx.AsyncClient]:
    """Of a pod that may sleep."""
    async with await make_client(engine={"cache_dir": "/tmp/c", "sleep": True}) as client:
        yield client


async def test_a_pod_sleeps_refuses_what_computes_and_wakes(
    client: httpx.AsyncClient, engine: Engine, may_answer: asyncio.Event
) -> None:
    may_answer.set()
    assert (await client.post("/sleep")).json() == {"is_sleeping": True}
    assert (await client.post("/sleep?level=1")).status_code == 200
    assert engine.asked == [1], "once"
    refused = await client.post("/v1/chat/completions", json=CHAT)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "pod_sleeps")
    assert (await client.post("/tokenize", json=TEXT)).status_code == 200
    assert (await client.get("/readyz")).status_code == 200, "it stays where gateways look for it"
    engine.may_wake.clear()
    waking = asyncio.ensure_future(client.post("/wake_up"))
    await until(lambda: engine.asked == [1, None])
    assert (await client.get("/is_sleeping")).json() == {"is_sleeping": True}, "not before it is awake"
    engine.may_wake.set()
    assert (await waking).json() == {"is_sleeping": False}
    assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_level_two_reads_the_weights_again_before_there_is_room_for_the_cache(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    await client.post("/sleep?level=2")
    await client.post("/wake_up")
    assert engine.asked == [2, ["weights"], "reload_weights", ["kv_cache"]]


async def test_a_pod_that_computes_does_not_sleep(
    client: httpx.AsyncClient, engine: Engine, may_answer: asyncio.Event
) -> None:
    running = asyncio.ensure_future(client.post("/v1/chat/completions", json=CHAT))
    await until(lambda: engine.computing == 1)
    assert (await client.post("/sleep")).status_code == 409
    assert engine.asked == []
    may_answer.set()
    assert (await running).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/sleep"), ("POST", "/wake_up"), ("GET", "/is_sleeping")], ids=lambda one: one
)
async def test_only_who_has_the_token_moves_it_and_only_where_it_may_sleep(
    method: str, path: str, client: httpx.AsyncClient, make_client: Callable[..., Any], engine: Engine
) -> None:
    refused = await client.request(method, path, headers={"authorization": "Bearer another"})
    assert refused.status_code == 401
    async with await make_client() as awake:
        assert (await awake.request(method, path)).status_code == 404
    assert engine.asked == []


@pytest.mark.parametrize("level", ["0", "3", "x"])
async def test_other_levels_are_refused_by_name(level: str, client: httpx.AsyncClient) -> None:
    refused = await client.post(f"/sleep?level={level}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "level")
