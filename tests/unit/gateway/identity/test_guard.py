"""The guard stands before every request and every socket, and lets pass only what routes declare as open."""

import asyncio
from collections.abc import Collection
from typing import Any, Literal

import pytest
from cloister_common.access import Services, provide
from cloister_common.browsers import Origins
from cloister_common.errors import Unauthenticated
from cloister_common.supervisor import Supervisor
from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.guard import OPEN, GuardMiddleware, open_routes
from cloister_gateway.identity.last_use import LastUse
from cloister_gateway.identity.principal import Credential, Principal
from fastapi import APIRouter
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

KEY = [(b"authorization", b"Bearer good")]
PAGE = "https://chat.example.org"

router = APIRouter(prefix="/web")


@router.get("/page/{name}", dependencies=[OPEN])
async def opened(name: str) -> None:
    """Declares that it is open."""


@router.get("/closed")
async def closed() -> None:
    """Declares nothing."""


class Verifier:
    """Knows one token; what goes wrong behind it is told with ``fault``."""

    kind: Literal["api_key"] = "api_key"
    fault: Exception | None = None

    def reads(self, token: str) -> bool:
        return True

    async def verify(self, token: str) -> Principal:
        if self.fault is not None:
            raise self.fault
        if token != "good":
            raise Unauthenticated("No.")
        return Principal("proj_a", "svc_acct_a", Credential(self.kind, "key_a"), frozenset({"api"}))

    async def ended(self, principals: Collection[Principal]) -> Collection[Principal]:
        return []


async def nowhere(used: dict[str, int]) -> None:
    """Takes the times of last use."""


class Guarded:
    """An application behind a guard, and what reached it."""

    def __init__(self) -> None:
        self.verifier, self.reached, self.sent = Verifier(), list[str](), list[Message]()
        announcements: Any = None
        self.authenticator = Authenticator([self.verifier], announcements, LastUse(nowhere), Supervisor())
        self.shell = Starlette()
        provide(self.shell.state, Services(self.authenticator))
        self.guard = GuardMiddleware(
            self._serve, open_routes=open_routes(router.routes), origins=Origins([PAGE, "https://two.example"])
        )

    async def ask(self, kind: str, path: str, headers: list[tuple[bytes, bytes]], *named: str) -> None:
        scope = {"type": kind, "path": path, "method": "GET", "headers": headers, "app": self.shell}
        if kind == "websocket":
            scope["subprotocols"] = list(named)
        await self.guard(scope, _never, self._send)

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached.append(scope["path"])
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            self.authenticator.revocations.hear({"key_id": "key_a"})
            await receive()


async def _never() -> Message:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def test_only_what_is_declared_open_answers_strangers() -> None:
    guarded = Guarded()
    await guarded.ask("http", "/web/page/x", [])
    for path in ("/web/closed", "/web/page/x/y", "/web/unknown", "/livez/"):
        with pytest.raises(Unauthenticated):
            await guarded.ask("http", path, [])
    assert guarded.reached == ["/web/page/x"]


@pytest.mark.parametrize("path", ["/v1/responses", "/unknown", "/web/page/x"])
async def test_a_stranger_reaches_no_socket_whatever_its_path(path: str) -> None:
    guarded = Guarded()
    await guarded.ask("websocket", path, [])
    assert guarded.reached == []
    assert guarded.sent[0]["type"] == "websocket.http.response.start"
    assert guarded.sent[0]["status"] == 401


@pytest.mark.parametrize("fault", [RedisConnectionError("away"), ResponseError("LOADING")])
async def test_a_store_that_is_away_is_told_to_sockets_as_to_requests(fault: Exception) -> None:
    guarded = Guarded()
    guarded.verifier.fault = fault
    await guarded.ask("websocket", "/v1/responses", KEY)
    assert guarded.sent[0]["status"] == 503
    assert guarded.reached == []


async def test_an_accepted_socket_is_closed_when_its_credential_ends() -> None:
    guarded = Guarded()
    await guarded.ask("websocket", "/v1/responses", KEY)
    assert [message["type"] for message in guarded.sent] == ["websocket.accept", "websocket.close"]
    assert guarded.sent[1]["code"] == 4401
    assert guarded.authenticator.revocations.watched == 0


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", PAGE + "/", f"{PAGE}, {PAGE}"])
async def test_a_page_that_is_not_listed_opens_no_socket_whatever_it_presents(origin: str) -> None:
    for headers, named in ((KEY, ()), ([], ("realtime", "openai-insecure-api-key.good")), ([], ())):
        guarded = Guarded()
        await guarded.ask("websocket", "/v1/responses", [*headers, (b"origin", origin.encode())], *named)
        assert guarded.sent[0]["status"] == 403
        assert guarded.reached == []


async def test_two_origins_open_no_socket() -> None:
    guarded = Guarded()
    await guarded.ask("websocket", "/v1/responses", [*KEY, *[(b"origin", PAGE.encode())] * 2])
    assert guarded.sent[0]["status"] == 403


async def test_a_listed_page_opens_a_socket_with_the_key_in_a_subprotocol() -> None:
    guarded = Guarded()
    named = ("realtime", "openai-insecure-api-key.good")
    await guarded.ask("websocket", "/v1/responses", [(b"origin", PAGE.encode())], *named)
    assert guarded.reached == ["/v1/responses"]


async def test_an_origin_that_is_not_listed_keeps_nobody_from_asking_over_http() -> None:
    guarded = Guarded()
    await guarded.ask("http", "/web/closed", [*KEY, (b"origin", b"https://evil.example")])
    assert guarded.reached == ["/web/closed"]
