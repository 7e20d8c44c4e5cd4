"""Query parameters: what would change an answer is refused by name, what means nothing passes."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Literal

import httpx
import pytest
from cloister_common.app import create_base_app
from cloister_common.bodies import JsonRoute
from cloister_common.direct import DirectRoute
from cloister_common.wire.requests import RequestModel
from cloister_gateway.organization.schemas import AdminKeyListQuery
from cloister_gateway.wire.query import DECLARED_QUERY, NO_QUERY, known_pairs, only_query
from fastapi import APIRouter, FastAPI, Query, Request
from starlette.responses import JSONResponse, Response

HARMLESS = (
    *("api-version", "utm_source", "utm_campaign", "_", "t", "ts", "v", "cb", "nocache", "fbclid", "gclid", "key"),
    *("pretty", "debug", "trace_id", "x-request-id", "beta", "source", "client", "timestamp", "a" * 5000, "", "é"),
)
MEANT = (
    *("limit", "order", "after", "before", "include", "include[]", "stream", "starting_after", "filter", "purpose"),
    *("limt", "Limit", "oder", "afer", "befor", "steam", "starting-after", "startingafter", "filters", "include_"),
    *("offset", "page", "cursor", "metadata", "metadata[]", "include_archived", "model", "sort_by"),
)


class Body(RequestModel):
    word: str = ""
    store: bool = True


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = create_base_app(title="test", lifespan=lifespan, checks=lambda _: {}, max_body_bytes=1000)
    strict = APIRouter(route_class=JsonRoute)

    @strict.get("/bare", dependencies=[NO_QUERY])
    async def bare() -> str:
        return "bare"

    @strict.post("/bodied", dependencies=[NO_QUERY])
    async def bodied(body: Body) -> Body:
        return body

    @strict.get("/listed")
    async def listed(request: Request, limit: int = 20, order: Literal["asc", "desc"] = "desc") -> list[str | int]:
        only_query(request, {"limit", "order"})
        return [limit, order, *(name for name, _ in known_pairs(request, {"limit", "order"}))]

    declared = APIRouter(dependencies=[DECLARED_QUERY])

    @declared.get("/declared")
    async def keys(query: Annotated[AdminKeyListQuery, Query()]) -> AdminKeyListQuery:
        return query

    direct = APIRouter(route_class=DirectRoute, dependencies=[NO_QUERY])

    @direct.post("/direct")
    async def called(body: Body) -> Response:
        return JSONResponse(body.word)

    for router in (strict, declared, direct):
        app.include_router(router)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def ask(client: httpx.AsyncClient, path: str, params: dict[str, str]) -> httpx.Response:
    if path in {"/bodied", "/direct"}:
        return await client.post(path, json={}, params=params)
    return await client.get(path, params=params)


ROUTES = ("/bare", "/bodied", "/direct", "/listed", "/declared")


@pytest.mark.parametrize("path", ROUTES)
async def test_what_means_nothing_is_passed_over(client: httpx.AsyncClient, path: str) -> None:
    plain = await ask(client, path, {})
    for name in HARMLESS:
        answer = await ask(client, path, {name: "1"})
        assert (answer.status_code, answer.content) == (200, plain.content), name


@pytest.mark.parametrize("path", ROUTES)
async def test_what_would_change_the_answer_is_refused_by_name(client: httpx.AsyncClient, path: str) -> None:
    known = {"/listed": {"limit", "order"}, "/declared": {"limit", "order", "after"}}.get(path, set())
    for name in MEANT:
        if name not in known:
            answer = await ask(client, path, {"utm_source": "x", name: "1"})
            assert answer.status_code == 400, name
            error = answer.json()["error"]
            assert (error["code"], error["param"]) == ("unsupported_parameter", name)


@pytest.mark.parametrize("path", ["/bodied", "/direct"])
async def test_what_belongs_into_the_body_is_sent_there(client: httpx.AsyncClient, path: str) -> None:
    error = (await ask(client, path, {"store": "false"})).json()["error"]
    assert (error["code"], error["param"], "body" in error["message"]) == ("unsupported_parameter", "store", True)
    assert (await ask(client, "/bare", {"store": "false"})).status_code == 200


async def test_what_is_known_is_honoured_and_handed_on_alone(client: httpx.AsyncClient) -> None:
    params = {"limit": "3", "order": "asc", "utm_source": "x"}
    assert (await ask(client, "/listed", params)).json() == [3, "asc", "limit", "order"]
    assert (await ask(client, "/declared", params)).json() == {"after": None, "limit": 3, "order": "asc"}
    assert (await ask(client, "/declared", {"limit": "1000"})).status_code == 400


async def test_many_parameters_cost_little(client: httpx.AsyncClient) -> None:
    params = {f"p{number}": "" for number in range(4000)}
    assert (await ask(client, "/bare", params)).status_code == 200
