"""The app shell: error shapes, body limits, readiness, request ids and logs, without a socket."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from cloister_common.app import create_base_app, field_path
from cloister_common.bodies import JsonRoute
from cloister_common.errors import CloisterError, Conflict, NotFound, TooManyRequests, Unavailable
from cloister_common.wire.requests import RequestModel
from fastapi import APIRouter, FastAPI, Request
from prometheus_client import REGISTRY
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import StreamingResponse

from tests.unit.common.conftest import LogLines

LIMIT = 200


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=5)


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    parts: list[Part]
    count: int = 0


class Rules(RequestModel):
    """Fields that must fit each other."""

    one: int | None = None
    other: int | None = None
    rules: "list[Rules]" = Field([], fail_fast=True)

    @model_validator(mode="after")
    def _one_of_both(self) -> "Rules":
        if self.one is not None and self.other is not None:
            raise ValueError("send either one or other")
        if self.one == 7:
            raise PydanticCustomError("seven", "'one' must not be {number}", {"number": 7})
        return self


class Failing:
    """A readiness check that a test can break."""

    error: Exception | None = None

    async def __call__(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.fixture
def check() -> Failing:
    return Failing()


@pytest.fixture
def app(check: Failing) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = create_base_app(
        title="test",
        lifespan=lifespan,
        checks=lambda _: {"redis": check, "models": Failing()},
        max_body_bytes=LIMIT,
        larger_bodies={"/upload": LIMIT * 10},
    )

    @app.post("/typed")
    async def typed(body: Body) -> Body:
        return body

    strict = APIRouter(route_class=JsonRoute)

    @strict.post("/rules")
    async def rules(body: Rules) -> Rules:
        return body

    app.include_router(strict)

    @app.post("/raw")
    @app.post("/upload")
    async def raw(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.get("/things/{name}")
    async def thing(name: str) -> None:
        raise {
            "missing": NotFound("No such thing."),
            "busy": TooManyRequests("Later.", retry_after=7),
            "conflict": Conflict("Changed meanwhile.", param="version", code="version_mismatch"),
            "unforeseen": RuntimeError("the secret sentence of a user"),
        }[name]

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            raise RuntimeError("the secret sentence of a user")

        return StreamingResponse(pieces())

    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def chunks(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 10):
        yield b'"aaaaaaa",'


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "parts", "missing_required_parameter"),
        ({"parts": "x"}, "parts", "invalid_value"),
        ({"parts": [{"text": "ok"}, {}]}, "parts[1].text", "missing_required_parameter"),
        ({"parts": [{"text": "ok", "color": 1}]}, "parts[0].color", "unsupported_parameter"),
        ({"parts": [{"text": "far too long"}], "speed": 1}, "speed", "unsupported_parameter"),
        ({"parts": [], "count": "many"}, "count", "invalid_value"),
        ([], None, "invalid_type"),
        (None, None, "invalid_type"),
    ],
)
async def test_validation_names_the_field_and_never_repeats_the_value(
    client: httpx.AsyncClient, body: Any, param: str | None, code: str
) -> None:
    response = await client.post("/typed", json=body)
    error = response.json()["error"]
    assert response.status_code == 400
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert "far too long" not in error["message"]
    assert param is None or param in error["message"]


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"one": 1, "other": 2}, "The request contradicts itself or lacks something: send either one or other.", None),
        ({"one": 7}, "The request contradicts itself or lacks something: 'one' must not be 7.", None),
        (
            {"rules": [{}, {"one": 1, "other": 2}]},
            "Invalid value for 'rules[1]': send either one or other.",
            "rules[1]",
        ),
    ],
)
async def test_a_rule_between_fields_is_told_as_the_rule(
    client: httpx.AsyncClient, body: Any, message: str, param: str | None
) -> None:
    error = (await client.post("/rules", json=body)).json()["error"]
    assert (error["message"], error["param"], error["code"]) == (message, param, "invalid_value")


async def test_many_unknown_fields_are_one_error_that_names_the_first(client: httpx.AsyncClient) -> None:
    error = (await client.post("/rules", json={"one": 1, **{f"f{number}": 1 for number in range(9)}})).json()["error"]
    assert (error["param"], error["code"]) == ("f0", "unsupported_parameter")


async def test_a_name_of_any_length_is_repeated_in_part_only() -> None:
    assert len(field_path(("body", "x" * 1_000_000))) < 300
    assert len(field_path(("body", *range(1_000_000)))) < 300


@pytest.mark.parametrize("content", [b"{", b"\xff", b""])
async def test_body_that_is_no_json_is_a_400_in_our_shape(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post("/typed", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("name", "status", "code", "param"),
    [
        ("missing", 404, "not_found", None),
        ("busy", 429, "rate_limit_exceeded", None),
        ("conflict", 409, "version_mismatch", "version"),
        ("unforeseen", 500, "server_error", None),
    ],
)
async def test_errors_leave_as_openais_error_object(
    client: httpx.AsyncClient, name: str, status: int, code: str, param: str | None
) -> None:
    response = await client.get(f"/things/{name}")
    error = response.json()["error"]
    assert response.status_code == status
    assert (error["code"], error["param"]) == (code, param)
    assert response.headers["x-request-id"].startswith("req_")
    assert response.headers.get("retry-after") == ("7" if name == "busy" else None)
    assert "secret" not in response.text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/typed", 405)])
async def test_unknown_routes_and_methods_have_the_same_shape(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
async def test_there_are_no_pages_nobody_asked_for(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_unforeseen_error_is_logged_without_its_message_and_counted(
    client: httpx.AsyncClient, log_lines: LogLines
) -> None:
    labels = {"method": "GET", "route": "/things/{name}", "status": "500"}
    before = REGISTRY.get_sample_value("cloister_http_requests_total", labels) or 0
    response = await client.get("/things/unforeseen")
    (failed,) = log_lines.events("request_failed")
    (request,) = log_lines.events("request")
    assert failed["error"] == "RuntimeError"
    assert any(place.startswith("test_app.py:") for place in failed["where"])
    assert failed["request_id"] == request["request_id"] == response.headers["x-request-id"]
    assert (request["status"], request["route"], failed["route"]) == (500, "/things/{name}", "/things/{name}")
    assert "secret" not in log_lines.text
    assert REGISTRY.get_sample_value("cloister_http_requests_total", labels) == before + 1


async def test_answer_that_fails_halfway_is_cut_and_logged_without_its_message(
    app: FastAPI, log_lines: LogLines
) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        with pytest.raises(RuntimeError):
            await client.get("/half")
    assert log_lines.events("request_failed")
    assert "secret" not in log_lines.text


async def test_log_line_has_the_route_and_never_the_path(client: httpx.AsyncClient, log_lines: LogLines) -> None:
    await client.get("/things/missing?q=private")
    (line,) = log_lines.events("request")
    assert (line["route"], line["status"], line["method"]) == ("/things/{name}", 404, "GET")
    assert "private" not in log_lines.text


@pytest.mark.parametrize("path", ["/typed", "/raw"])
async def test_body_over_the_limit_is_refused_by_its_declared_length(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(path, content=b"x" * (LIMIT + 1))
    assert response.status_code == 413
    assert f"{LIMIT} bytes" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/typed", "/raw"])
async def test_body_over_the_limit_without_a_declared_length_is_refused_too(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.post(path, content=chunks(LIMIT * 2), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"


async def test_body_at_the_limit_passes_and_uploads_have_their_own(client: httpx.AsyncClient) -> None:
    assert (await client.post("/raw", content=b"x" * LIMIT)).json() == {"bytes": LIMIT}
    assert (await client.post("/upload", content=b"x" * LIMIT * 10)).json() == {"bytes": LIMIT * 10}
    assert (await client.post("/upload", content=b"x" * (LIMIT * 10 + 1))).status_code == 413


@pytest.mark.parametrize("length", ["-1", "many", "1e9"])
async def test_declared_length_that_is_no_number_is_refused(client: httpx.AsyncClient, length: str) -> None:
    response = await client.post("/raw", content=b"x", headers={"content-length": length})
    assert response.status_code == 413


async def test_readiness_names_what_is_not_ready(client: httpx.AsyncClient, check: Failing) -> None:
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    check.error = Unavailable("Redis does not answer.")
    down = await client.get("/readyz")
    # Load generators and frontends know it by this name.
    assert ((await client.get("/health")).status_code, (await client.get("/health")).json()) == (503, down.json())
    assert down.status_code == 503
    assert down.json() == {
        "status": "not ready",
        "parts": {"redis": "Redis does not answer.", "models": "ready"},
    }
    check.error = ConnectionRefusedError("10.1.2.3:6379")
    assert (await client.get("/readyz")).json()["parts"]["redis"] == "ConnectionRefusedError"
    assert (await client.get("/livez")).status_code == 200


async def test_readiness_does_not_wait_for_a_part_that_hangs(
    client: httpx.AsyncClient, check: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloister_common.app._READINESS_SECONDS", 0.05)

    async def hang(_: Failing) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Failing, "__call__", hang)
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["parts"]["redis"]) == (503, "no answer within 0.05 s")


async def test_health_probes_are_not_logged(client: httpx.AsyncClient, log_lines: LogLines) -> None:
    await client.get("/livez")
    await client.get("/readyz")
    assert log_lines.events("request") == []


def test_library_logs_have_the_same_shape_and_lose_exception_messages(log_lines: LogLines) -> None:
    logging.getLogger("some.library").error("it failed", exc_info=ValueError("the secret sentence of a user"))
    (line,) = log_lines.events("it failed")
    assert (line["service"], line["level"], line["error"]) == ("test", "error", "ValueError")
    assert "secret" not in log_lines.text


@pytest.mark.parametrize(
    ("loc", "path"),
    [
        (("body", "input", 0, "content"), "input[0].content"),
        (("query", "limit"), "limit"),
        (("body",), ""),
        (("filters", "filters", 2, 1), "filters.filters[2][1]"),
        (("body", "stop", "list[constrained-str]", 1), "stop[1]"),
        (("body", "tool_choice", "literal['none','auto']"), "tool_choice"),
        (("body", "metadata", "k", "[key]"), "metadata.k"),
    ],
)
def test_field_paths_read_as_callers_write_them(loc: tuple[int | str, ...], path: str) -> None:
    assert field_path(loc) == path


def test_every_error_has_its_own_status_and_code() -> None:
    def tree(cls: type[CloisterError]) -> list[type[CloisterError]]:
        return [cls, *(leaf for child in cls.__subclasses__() for leaf in tree(child))]

    ours = [cls for cls in tree(CloisterError) if cls.__module__ == "cloister_common.errors"]
    assert len({cls.code for cls in ours}) == len(ours)
    assert all(400 <= cls.status < 600 for cls in ours)
