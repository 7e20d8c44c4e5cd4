"""CORS: pages of listed origins read every answer and ask before they send; for all others there are no browsers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from cloister_common.app import create_base_app
from cloister_common.browsers import Origin, Origins
from cloister_common.errors import TooManyRequests, Unauthenticated
from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PAGE = "https://chat.example.org"
OTHER = "https://evil.example.org"
ASKS = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-stainless-os"}


def client(*origins: str) -> httpx.AsyncClient:
    """Of a service of those origins, with a guard that lets nobody pass who has no key."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = create_base_app(
        title="t", lifespan=lifespan, checks=lambda _: {}, max_body_bytes=100, origins=Origins(origins)
    )

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"

        return StreamingResponse(events(), media_type="text/event-stream", headers={"vary": "accept"})

    @app.get("/busy")
    async def busy() -> None:
        raise TooManyRequests("Later.", retry_after=3)

    @app.get("/broken")
    async def broken() -> None:
        raise ValueError

    app.add_layer(Guard)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://t")


class Guard:
    """Lets nobody pass who has no key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if b"authorization" not in dict(scope["headers"]):
            raise Unauthenticated("No.")
        await self._app(scope, receive, send)


def cors_of(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("path", ["/stream", "/unknown"])
async def test_a_listed_pages_question_is_answered_without_a_key(path: str) -> None:
    answer = await client(PAGE).options(path, headers={"origin": PAGE, **ASKS})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert {"POST", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    assert int(answer.headers["access-control-max-age"]) > 0
    assert answer.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-private-network" not in answer.headers


async def test_a_listed_page_may_call_into_a_private_network() -> None:
    asks = {"origin": PAGE, **ASKS, "access-control-request-private-network": "true"}
    assert (await client(PAGE).options("/x", headers=asks)).headers["access-control-allow-private-network"] == "true"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": OTHER, **ASKS},
        {"origin": "null", **ASKS},
        {"origin": PAGE.upper(), **ASKS},
        {"origin": f"{PAGE}.evil.example", **ASKS},
        {"origin": f"{PAGE}:8443", **ASKS},
        {"origin": PAGE},
        ASKS,
    ],
)
async def test_any_other_question_is_a_request_without_a_key(headers: dict[str, str]) -> None:
    answer = await client(PAGE).options("/stream", headers=headers)
    assert answer.status_code == 401
    assert "access-control-allow-headers" not in answer.headers
    assert ("access-control-allow-origin" in answer.headers) == (headers.get("origin") == PAGE)


@pytest.mark.parametrize(
    ("method", "path", "key", "body", "status"),
    [
        ("GET", "/stream", True, "", 200),
        ("GET", "/stream", False, "", 401),
        ("GET", "/unknown", True, "", 404),
        ("POST", "/stream", True, "", 405),
        ("POST", "/stream", True, "x" * 101, 413),
        ("GET", "/busy", True, "", 429),
        ("GET", "/broken", True, "", 500),
    ],
)
async def test_a_listed_page_reads_every_answer(method: str, path: str, key: bool, body: str, status: int) -> None:
    headers = {"origin": PAGE, **({"authorization": "Bearer key"} if key else {})}
    answer = await client(PAGE).request(method, path, headers=headers, content=body)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "origin" in answer.headers.get_list("vary")
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"x-request-id", "retry-after", "x-ratelimit-remaining-tokens", "openai-processing-ms"} <= set(exposed)
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", [OTHER, "null", PAGE + "/"])
async def test_what_other_pages_ask_is_answered_without_a_word_for_them(origin: str) -> None:
    answer = await client(PAGE).get("/stream", headers={"origin": origin, "authorization": "Bearer key"})
    assert answer.status_code == 200
    assert cors_of(answer) == {}
    assert "origin" in answer.headers.get_list("vary")


async def test_two_origins_are_none_that_is_listed() -> None:
    headers = [("origin", PAGE), ("origin", PAGE), ("authorization", "Bearer key")]
    assert cors_of(await client(PAGE).get("/stream", headers=headers)) == {}


@pytest.mark.parametrize(
    ("origins", "headers"), [((PAGE,), {}), ((), {"origin": PAGE}), ((), {"origin": PAGE, **ASKS})]
)
async def test_where_no_page_is_concerned_answers_are_as_without_browsers(
    origins: tuple[str, ...], headers: dict[str, str]
) -> None:
    for method, status in (("GET", 200), ("OPTIONS", 204)):
        answer = await client(*origins).request(method, "/stream", headers={"authorization": "Bearer key", **headers})
        assert answer.status_code == status
        assert cors_of(answer) == {}
        assert answer.headers.get("vary", "accept") == "accept"


ORIGIN: TypeAdapter[str] = TypeAdapter(Origin)


@pytest.mark.parametrize(
    "origin",
    ["https://chat.example.org", "http://127.0.0.1:3000", "https://[::1]:8443", "https://xn--bcher-kva.example",
     "http://localhost", "tauri://localhost", "chrome-extension://abcdef"],
)  # fmt: skip
def test_an_origin_is_taken_as_browsers_write_it(origin: str) -> None:
    assert ORIGIN.validate_python(origin) == origin


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "", "chat.example.org", "https://", "https://*.example.org", "https://chat.example.org/",
     "https://chat.example.org/app", "https://Chat.example.org", "https://chat.example.org:443", "http://[::1]:80",
     "https://user@chat.example.org", "https://bücher.example", "https://a.example,https://b.example",
     "https://chat.example.org:70000", "https://chat.example.org\n", "file://home"],
)  # fmt: skip
def test_what_no_browser_would_send_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError):
        ORIGIN.validate_python(origin)
