"""Tickets in a socket's first message: as in a subprotocol, and strangers hold nothing for long."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.support.gateway import GatewayFixture
from tests.support.pages import OTHER_PAGE, PAGE, call, from_page, new_key, refused, ticket
from tests.support.sockets import ask, receive, text_of, turn

FOLLOWS = "cloister.ticket"
ACCEPTED = {"type": "cloister.ticket.accepted"}


@pytest.fixture
def gateway(make_gateway: Callable[..., GatewayFixture]) -> GatewayFixture:
    return make_gateway(browsers={"origins": [PAGE, OTHER_PAGE]}, responses={"sockets_per_tenant": 1})


@pytest.fixture
def url(gateway: GatewayFixture) -> Iterator[str]:
    with gateway.serve() as served:
        yield served


def present(socket: ClientConnection, shown: str) -> Any:
    """Sends a ticket; what it is answered."""
    socket.send(json.dumps({"type": FOLLOWS, "ticket": shown.removeprefix(f"{FOLLOWS}.")}))
    return receive(socket)


def closed(socket: ClientConnection) -> int:
    """The code that the socket is closed with."""
    with pytest.raises(ConnectionClosed) as end:
        socket.recv(timeout=30)
    assert end.value.rcvd is not None
    return end.value.rcvd.code


@pytest.mark.parametrize(("named", "answered"), [(("realtime", FOLLOWS), "realtime"), ((FOLLOWS,), FOLLOWS)])
def test_a_ticket_in_the_first_message_opens_one_socket(
    url: str, gateway: GatewayFixture, named: tuple[str, ...], answered: str
) -> None:
    shown = ticket(url, gateway.project_key)
    with from_page(url, *named) as socket:
        assert socket.subprotocol == answered
        assert present(socket, shown) == ACCEPTED
        ask(socket, "x" * 100_000)  # The bound on a stranger's message is gone.
        assert text_of(turn(socket)) == "Hello, this is the fake."
    with from_page(url, *named) as socket:
        error = present(socket, shown)
        assert (error["type"], error["status"], error["error"]["code"]) == ("error", 401, "invalid_ticket")
        assert closed(socket) == 4401


@pytest.mark.parametrize(("made_for", "used_by"), [(PAGE, OTHER_PAGE), (PAGE, None), (None, PAGE)])
def test_the_ticket_must_be_of_the_sockets_origin(
    url: str, gateway: GatewayFixture, made_for: str | None, used_by: str | None
) -> None:
    shown = ticket(url, gateway.project_key, page=made_for)
    with from_page(url, FOLLOWS, page=used_by) as socket:
        assert present(socket, shown)["error"]["code"] == "invalid_ticket"
        assert closed(socket) == 4401


@pytest.mark.parametrize(
    "message",
    [
        "",
        "[]",
        "clot_x",
        '{"type": "response.create", "model": "fake", "input": "hi"}',
        '{"type": "cloister.ticket", "ticket": 7}',
        b"\xff",
    ],
)
def test_a_first_message_that_is_no_ticket_is_refused_with_the_mend(url: str, message: str | bytes) -> None:
    with from_page(url, FOLLOWS) as socket:
        socket.send(message)
        error = receive(socket)
        assert (error["status"], error["error"]["code"]) == (400, "invalid_ticket")
        assert '"ticket": "clot_' in error["error"]["message"]
        assert closed(socket) == 1008


def test_a_long_message_of_a_stranger_is_not_read(url: str) -> None:
    with from_page(url, FOLLOWS) as socket:
        socket.send("x" * 2000)
        assert closed(socket) == 1009


def test_a_stranger_who_sends_nothing_is_closed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister_gateway.identity.first_message._SECONDS", 0.1)
    with from_page(url, FOLLOWS) as socket:
        assert receive(socket)["error"]["code"] == "invalid_ticket"
        assert closed(socket) == 4401


def test_few_strangers_wait_at_once_and_their_places_come_back(
    url: str, gateway: GatewayFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloister_gateway.identity.first_message._MOST", 3)
    shown = ticket(url, gateway.project_key)
    with ExitStack() as stack:
        first, *_ = [stack.enter_context(from_page(url, FOLLOWS)) for _ in range(3)]
        assert refused(url, FOLLOWS)[0] == 429
        assert present(first, shown) == ACCEPTED
        # Who has shown a ticket is none of them any more.
        with from_page(url, FOLLOWS):
            pass


def test_pages_of_other_origins_are_refused_before_their_ticket(url: str) -> None:
    assert refused(url, FOLLOWS, page="https://evil.example") == (403, "origin_not_allowed")


def test_what_is_refused_behind_the_ticket_is_told_on_the_socket(url: str, gateway: GatewayFixture) -> None:
    with from_page(url, FOLLOWS) as one, from_page(url, FOLLOWS) as other:
        assert present(one, ticket(url, gateway.project_key)) == ACCEPTED
        assert present(other, ticket(url, gateway.project_key))["status"] == 429
        assert closed(other) == 4429


def test_such_a_socket_is_closed_when_its_key_is_revoked(url: str, gateway: GatewayFixture) -> None:
    key = new_key(url, gateway)
    with from_page(url, FOLLOWS) as socket:
        assert present(socket, ticket(url, key.token)) == ACCEPTED
        assert call(url, gateway.admin_key, key.path, "DELETE").status_code == 200
        assert closed(socket) == 4401
