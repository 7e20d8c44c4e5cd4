"""What is not JSON is the caller's error, wherever in the body it stands."""

from typing import Any

import httpx
import pytest
from cloister_common.bodies import JsonRoute
from cloister_common.errors import PayloadTooLarge
from fastapi import APIRouter, FastAPI


@pytest.fixture
async def client() -> Any:
    router = APIRouter(route_class=JsonRoute)

    @router.post("/")
    async def echo(body: dict[str, Any]) -> dict[str, Any]:
        return body

    app = FastAPI(telemetry={"logs": False})
    app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": "\xff"}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        '{"a": 1}'.encode("utf-16"),
    ],
)
async def test_what_is_not_json_is_refused_as_such(client: httpx.AsyncClient, raw: bytes) -> None:
    answer = await client.post("/", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "json_invalid"


async def test_all_that_is_json_is_read(client: httpx.AsyncClient) -> None:
    body = {"a": "\0\u2028\U0001f600", "b": [1, -(2**63), 0.5, None, True], "\u00e9": {}}
    assert (await client.post("/", json=body)).json() == body
    many = await client.post("/", content=b'{"a": 1, "a": 2}', headers={"content-type": "application/json"})
    assert many.json() == {"a": 2}


@pytest.mark.parametrize("raw", [b"[" * 500 + b"1," * 100_000, b'{"a": [' + b"1," * 100_000 + b"1]}"])
async def test_what_has_too_many_values_is_refused_before_it_is_read(client: httpx.AsyncClient, raw: bytes) -> None:
    with pytest.raises(PayloadTooLarge, match="50000 JSON values"):
        await client.post("/", content=raw, headers={"content-type": "application/json"})


async def test_many_commas_in_a_text_are_no_values(client: httpx.AsyncClient) -> None:
    body = {"a": 'he said: "[{,' * 100_000}
    assert (await client.post("/", json=body)).json() == body
