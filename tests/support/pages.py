"""Gateways that pages in browsers may call, for tests: what a browser would send, without one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.support.gateway import GatewayFixture

__all__ = ["ORGANIZATION", "OTHER_PAGE", "PAGE", "TICKETS", "Key", "call", "from_page", "new_key", "refused", "ticket"]

PAGE = "https://chat.example.org"
OTHER_PAGE = "https://docs.example.org"
"""Both are listed by the gateways of these tests."""

TICKETS = "/cloister/v1/socket-tickets"
ORGANIZATION = "/v1/organization"


class Key(NamedTuple):
    """A key of a project of its own, and where it is administered."""

    token: str
    id: str
    path: str
    project: str


def call(url: str, key: str, path: str, method: str = "POST", *, origin: str | None = None, json: Any = None) -> Any:
    """A request with a key, from a page where there is an origin; gives the answer."""
    headers = {"authorization": f"Bearer {key}", **({"origin": origin} if origin is not None else {})}
    return httpx.request(method, url + path, headers=headers, json=json, timeout=30)


def new_key(url: str, gateway: GatewayFixture, **options: Any) -> Key:
    """A key in a new project."""
    project = f"/projects/{call(url, gateway.admin_key, f'{ORGANIZATION}/projects', json={'name': 'p'}).json()['id']}"
    accounts = f"{ORGANIZATION}{project}/service_accounts"
    made = call(url, gateway.admin_key, accounts, json={"name": "bot", **options}).json()["api_key"]
    return Key(made["value"], made["id"], f"{ORGANIZATION}{project}/api_keys/{made['id']}", ORGANIZATION + project)


def ticket(url: str, key: str, *, page: str | None = PAGE) -> str:
    """A ticket that a server asks for, for a page; the subprotocol that it is sent in."""
    answer = call(url, key, TICKETS, json={} if page is None else {"origin": page})
    assert answer.status_code == 200, answer.text
    subprotocol: str = answer.json()["subprotocol"]
    return subprotocol


@contextmanager
def from_page(
    url: str, *subprotocols: str, page: str | None = PAGE, headers: dict[str, str] | None = None, query: str = ""
) -> Iterator[ClientConnection]:
    """A WebSocket as a page opens it: an origin, and subprotocols, which hold the credential."""
    address = url.replace("http", "ws", 1) + "/v1/responses" + query
    named: Any = list(subprotocols) or None
    with connect(
        address,
        origin=None if page is None else Origin(page),
        subprotocols=named,
        additional_headers=headers,
        proxy=None,
        compression=None,
    ) as socket:
        yield socket


def refused(url: str, *subprotocols: str, **options: Any) -> tuple[int, str]:
    """The status and the code by which such a WebSocket is refused; fails where it is not."""
    try:
        with from_page(url, *subprotocols, **options):
            raise AssertionError("the socket was opened")
    except InvalidStatus as error:
        answer = error.response
        assert b"clo_" not in answer.serialize(), "the answer has a credential in it"
        return answer.status_code, httpx.Response(answer.status_code, content=bytes(answer.body)).json()["error"][
            "code"
        ]
