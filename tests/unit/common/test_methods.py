"""HEAD, OPTIONS, ``Allow`` and slashes: the same on every route, without a route knowing of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
from cloister_common.app import BaseApp, create_base_app
from cloister_common.direct import DirectRoute
from cloister_common.errors import NotFound
from fastapi import APIRouter, FastAPI, Request
from prometheus_client import REGISTRY
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount

from tests.unit.common.conftest import LogLines


class Endless:
    """An answer that does not end, and whether anybody still makes it."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"more"
                await asyncio.sleep(0)
        finally:
            self.ended.set()


@pytest.fixture
def endless() -> Endless:
    return Endless()


@pytest.fixture
def app(endless: Endless) -> BaseApp:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = create_base_app(title="test", lifespan=lifespan, checks=lambda _: {}, max_body_bytes=1000)
    router = APIRouter(prefix="/things")

    @router.get("")
    async def listed() -> list[str]:
        return ["one"]

    @router.post("")
    async def create(request: Request) -> Response:
        return Response(await request.body(), headers={"x-key": request.headers.get("authorization", "")})

    @router.get("/{name}")
    async def thing(name: str) -> JSONResponse:
        if name == "missing":
            raise NotFound("No such thing.")
        return JSONResponse({"name": name}, headers={"x-name": name})

    @router.delete("/{name}")
    async def delete(name: str) -> str:
        return name

    direct = APIRouter(route_class=DirectRoute)

    @direct.post("/direct")
    async def called(request: Request) -> Response:
        return Response(await request.body())

    @app.get("/endless")
    async def without_end() -> StreamingResponse:
        return StreamingResponse(endless.pieces())

    app.include_router(router)
    app.include_router(direct)
    app.leave_out("GET", "/direct")
    app.router.routes.append(Mount("/mounted", routes=APIRouter(routes=router.routes).routes))
    return app


@pytest.fixture
async def client(app: BaseApp) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize("path", ["/things", "/things/one", "/things/missing", "/nowhere", "/livez", "/readyz"])
async def test_head_has_the_headers_of_get_and_no_body(client: httpx.AsyncClient, path: str) -> None:
    got, headed = await client.get(path), await client.head(path)
    assert (headed.status_code, headed.content) == (got.status_code, b"")
    assert int(headed.headers["content-length"]) == len(got.content)
    ours = {"x-request-id"}
    assert {name: value for name, value in headed.headers.items() if name not in ours} == {
        name: value for name, value in got.headers.items() if name not in ours
    }


async def test_head_of_an_answer_without_an_end_has_one(client: httpx.AsyncClient, endless: Endless) -> None:
    answer = await asyncio.wait_for(client.head("/endless"), 10)
    assert (answer.status_code, answer.content) == (200, b"")
    await asyncio.wait_for(endless.ended.wait(), 10)


async def test_head_is_logged_and_counted_as_what_it_is(client: httpx.AsyncClient, log_lines: LogLines) -> None:
    labels = {"method": "HEAD", "route": "/things/{name}", "status": "200"}
    before = REGISTRY.get_sample_value("cloister_http_requests_total", labels) or 0
    await client.head("/things/one")
    (line,) = log_lines.events("request")
    assert (line["method"], line["route"], line["status"]) == ("HEAD", "/things/{name}", 200)
    assert REGISTRY.get_sample_value("cloister_http_requests_total", labels) == before + 1


@pytest.mark.parametrize(
    ("path", "allowed", "refused"),
    [
        ("/things", "GET, HEAD, OPTIONS, POST", ("PUT", "DELETE", "PATCH", "TRACE", "BREW")),
        ("/things/one", "DELETE, GET, HEAD, OPTIONS", ("POST", "PUT")),
        ("/direct", "OPTIONS, POST", ("DELETE", "PUT")),
        ("/livez", "GET, HEAD, OPTIONS", ("POST",)),
        ("/things/one/", "DELETE, GET, HEAD, OPTIONS", ("POST",)),
    ],
)
async def test_a_405_and_options_say_what_is_allowed(
    client: httpx.AsyncClient, path: str, allowed: str, refused: tuple[str, ...]
) -> None:
    for method in refused:
        answer = await client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json()["error"]["code"] == "method_not_supported"
    answer = await client.options(path)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allowed, b"")


async def test_what_is_left_out_is_a_404_whatever_else_the_path_does(client: httpx.AsyncClient) -> None:
    assert (await client.get("/direct")).status_code == 404
    assert (await client.head("/direct")).status_code == 404


async def test_options_of_an_unknown_path_is_a_404(client: httpx.AsyncClient) -> None:
    assert (await client.options("/nowhere")).status_code == 404


@pytest.mark.parametrize("path", ["/things/", "/things//", "//things", "//things/", "/direct/", "//direct"])
async def test_slashes_too_many_change_nothing(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(f"http://test{path}", content=b"body", headers={"authorization": "Bearer key"})
    assert (answer.status_code, answer.content) == (200, b"body")
    assert answer.headers.get("x-key", "Bearer key") == "Bearer key"


async def test_the_root_is_a_path_like_others(client: httpx.AsyncClient) -> None:
    assert [(await client.get(f"http://test{path}")).status_code for path in ("/", "//")] == [404, 404]
