"""A route that is called directly answers as FastAPI would, and is one of the application's like any other."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from cloister_common.access import Direct, Services, provide, provided
from cloister_common.app import BaseApp, create_base_app
from cloister_common.bodies import JsonRoute
from cloister_common.direct import DirectRoute
from cloister_common.errors import Conflict, Forbidden
from cloister_common.wire.requests import RequestModel
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import REGISTRY
from pydantic import Field

from tests.unit.common.conftest import LogLines


class Body(RequestModel):
    word: str = Field(max_length=70_000)
    body: int = 0


class Greeter:
    """A service."""

    greeting = "Hello"


def _not_forbidden(connection: Any) -> None:
    if "x-forbidden" in connection.headers:
        raise Forbidden("No.")


async def greet(
    body: Body,
    greeter: Annotated[Greeter, Depends(provided(Greeter))],
    request: Request,
    x_name: Annotated[str | None, Header(max_length=5)] = None,
) -> Response:
    """Takes all that a direct route may take."""
    if body.word == "conflict":
        raise Conflict("Changed meanwhile.", param="word")
    if body.word == "unforeseen":
        raise RuntimeError("the secret sentence of a user")
    return JSONResponse([greeter.greeting, body.word[:9], x_name, request.method])


@pytest.fixture
def app() -> BaseApp:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = create_base_app(
        title="test", lifespan=lifespan, checks=lambda _: {}, max_body_bytes=100_000, max_json_values=9
    )
    provide(app.state, Services(Greeter()))
    for path, kind in {"/direct": DirectRoute, "/routed": JsonRoute}.items():
        router = APIRouter(route_class=kind, dependencies=[Depends(Direct(_not_forbidden))])
        router.add_api_route(path, greet, methods=["POST"])
        app.include_router(router)
    return app


@pytest.fixture
async def client(app: BaseApp) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b'{"word": "you"}', {}),
        (b'{"word": "you"}', {"x-name": "me"}),
        (b'{"word": "you"}', {"x-name": "far too long"}),
        (b'{"word": "you"}', {"x-forbidden": "1"}),
        (b'{"word": "you"}', {"content-type": "application/json; charset=utf-8"}),
        (b'{"word": "you"}', {"content-type": "application/merge-patch+json"}),
        (b'{"word": "you"}', {"content-type": "text/plain"}),
        (b'{"word": "you"}', {"content-type": ""}),
        (b'{"word": "you"}', {"content-type": "application/x-www-form-urlencoded"}),
        (b'{"word": "you"}', {"content-type": "multipart/form-data; boundary=x"}),
        (b'\xef\xbb\xbf{"word": "you"}', {}),
        (b"word=you", {"content-type": "application/x-www-form-urlencoded"}),
        (b"{", {}),
        (b"{", {"x-forbidden": "1"}),
        (b"", {}),
        (b"null", {}),
        (b"[]", {}),
        (b"{}", {}),
        (b'{"word": 1}', {}),
        (b'{"word": 1}', {"x-forbidden": "1"}),
        (b'{"word": "conflict"}', {}),
        (b'{"word": "unforeseen"}', {}),
        (b'{"word": "you", "more": 1}', {}),
        (b'{"word": "you", "body": "no number"}', {}),
        (json.dumps({"word": "x" * 70_000}).encode(), {}),
        (json.dumps({"word": "x" * 70_001}).encode(), {}),
        (json.dumps({"word": "x" * 70_000, "body": "no number"}).encode(), {}),
        (json.dumps({"word": [1] * 10}).encode(), {}),
        (b"x" * 100_001, {}),
    ],
)
async def test_it_answers_as_fastapi_would(client: httpx.AsyncClient, content: bytes, headers: dict[str, str]) -> None:
    headers = {"content-type": "application/json", **headers}
    direct, routed = [await client.post(path, content=content, headers=headers) for path in ("/direct", "/routed")]
    assert (direct.status_code, direct.content) == (routed.status_code, routed.content)
    assert direct.headers.keys() == routed.headers.keys()
    assert direct.status_code in {200, 400, 403, 409, 413, 415, 500}


@pytest.mark.parametrize("path", ["/direct", "/routed"])
@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json; charset=utf-8", 200),
        ("application/x-www-form-urlencoded", 200),
        ("text/plain;charset=UTF-8", 200),
        ("", 200),
        ("nonsense", 200),
        ("multipart/form-data; boundary=x", 415),
    ],
)
async def test_json_is_read_whatever_its_type_is_called(
    client: httpx.AsyncClient, path: str, content_type: str, status: int
) -> None:
    for before in (b"", b"\xef\xbb\xbf", b" \n"):
        request = client.build_request("POST", path, content=before + b'{"word": "you"}')
        request.headers["content-type"] = content_type
        if not content_type:
            del request.headers["content-type"]
        answer = await client.send(request)
        assert answer.status_code == status
    assert (answer.json()[1] == "you") if status == 200 else (answer.json()["error"]["param"] == "Content-Type")


async def test_its_line_and_its_count_say_which_route_it_is(client: httpx.AsyncClient, log_lines: LogLines) -> None:
    labels = {"method": "POST", "route": "/direct", "status": "200"}
    before = REGISTRY.get_sample_value("cloister_http_requests_total", labels) or 0
    answer = await client.post("/direct", json={"word": "you"})
    assert answer.json() == ["Hello", "you", None, "POST"]
    (line,) = log_lines.events("request")
    assert (line["route"], line["status"], line["request_id"]) == ("/direct", 200, answer.headers["x-request-id"])
    assert REGISTRY.get_sample_value("cloister_http_requests_total", labels) == before + 1


async def test_other_methods_and_paths_go_the_usual_way(client: httpx.AsyncClient) -> None:
    assert (await client.get("/direct")).status_code == 405
    assert (await client.post("/direct/", json={"word": "you"})).json()[0] == "Hello"


# Endpoints that are declared wrongly: they are refused at their declaration, so that nothing ever calls them.


async def _variable(name: str) -> Response:
    raise NotImplementedError


async def _query(limit: Annotated[int, Query()] = 1) -> Response:
    raise NotImplementedError


async def _waits() -> int:
    return 1


async def _dependent(number: Annotated[int, Depends(_waits)]) -> Response:
    raise NotImplementedError


async def _no_response() -> dict[str, int]:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("path", "endpoint"), [("/{name}", _variable), ("/", _query), ("/", _dependent), ("/", _no_response)]
)
def test_what_cannot_be_called_directly_is_refused_where_it_is_declared(path: str, endpoint: Any) -> None:
    with pytest.raises(TypeError, match="cannot be called directly"):
        DirectRoute(path, endpoint, methods=["POST"])
