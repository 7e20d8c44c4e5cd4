"""Tickets: one socket, from one origin, for thirty seconds, and not a moment longer than their key."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from cloister_common.vault import Keyring, VaultError
from cloister_gateway.identity.principal import Credential, Principal
from cloister_gateway.identity.seals import Seals
from cloister_gateway.identity.ticket_store import TicketStore
from redis.asyncio import Redis
from websockets.exceptions import ConnectionClosed

from tests.support.gateway import GatewayFixture
from tests.support.pages import (
    ORGANIZATION,
    OTHER_PAGE,
    PAGE,
    TICKETS,
    call,
    from_page,
    new_key,
    refused,
    ticket,
)
from tests.support.redis_server import RedisServer
from tests.support.sockets import ask, receive, text_of, turn
from tests.support.waiting import until

INVALID = (401, "invalid_ticket")


class Site(NamedTuple):
    """Two gateways that two pages may call."""

    gateway: GatewayFixture
    one: str
    other: str


@pytest.fixture
def site(make_gateway: Callable[..., GatewayFixture]) -> Iterator[Site]:
    gateway = make_gateway(browsers={"origins": [PAGE, OTHER_PAGE]})
    with gateway.serve() as one, gateway.serve() as other:
        yield Site(gateway, one, other)


def test_a_ticket_opens_one_socket_on_any_gateway(site: Site) -> None:
    shown = ticket(site.one, site.gateway.project_key)
    with from_page(site.other, "realtime", shown) as socket:
        assert socket.subprotocol == "realtime"
        ask(socket)
        assert text_of(turn(socket)) == "Hello, this is the fake."
        assert refused(site.one, "realtime", shown) == INVALID
    assert refused(site.other, "realtime", shown) == INVALID


def test_of_many_who_send_the_same_ticket_one_gets_in(site: Site) -> None:
    shown = ticket(site.one, site.gateway.project_key)
    together = threading.Barrier(8)

    def enter(number: int) -> Any:
        together.wait()
        try:
            return refused((site.one, site.other)[number % 2], shown)
        except AssertionError:
            return "opened"

    with ThreadPoolExecutor(8) as threads:
        assert Counter(threads.map(enter, range(8))) == {"opened": 1, INVALID: 7}


@pytest.mark.parametrize(("made_for", "used_by"), [(PAGE, OTHER_PAGE), (PAGE, None), (None, PAGE)])
def test_a_ticket_of_another_origin_opens_nothing_and_is_used_up(
    site: Site, made_for: str | None, used_by: str | None
) -> None:
    shown = ticket(site.one, site.gateway.project_key, page=made_for)
    assert refused(site.one, shown, page=used_by) == INVALID
    assert refused(site.one, shown, page=made_for) == INVALID


def test_a_ticket_for_no_page_opens_a_socket_without_an_origin(site: Site) -> None:
    with from_page(site.one, ticket(site.one, site.gateway.project_key, page=None), page=None) as socket:
        assert socket.subprotocol is None


@pytest.mark.parametrize("how", ["key", "project"])
def test_a_ticket_dies_with_its_key(site: Site, how: str) -> None:
    key = new_key(site.one, site.gateway)
    shown = ticket(site.one, key.token)
    end = (key.path, "DELETE") if how == "key" else (f"{key.project}/archive", "POST")
    assert call(site.other, site.gateway.admin_key, *end).status_code == 200
    assert refused(site.one, shown) == (401, "invalid_api_key")


def test_a_socket_that_a_ticket_opened_is_closed_when_its_key_is_revoked(site: Site) -> None:
    key = new_key(site.one, site.gateway)
    with from_page(site.one, "realtime", ticket(site.one, key.token)) as socket:
        assert call(site.other, site.gateway.admin_key, key.path, "DELETE").status_code == 200
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


def test_a_socket_that_a_ticket_opened_may_what_its_key_may(site: Site) -> None:
    key = new_key(site.one, site.gateway, scopes=["responses"])
    with from_page(site.one, "realtime", ticket(site.one, key.token)) as socket:
        ask(socket, conversation="conv_x")
        refusal = receive(socket)
    assert (refusal["status"], refusal["error"]["param"]) == (403, "conversation")


def test_a_page_asks_for_a_ticket_of_its_own(site: Site) -> None:
    answer = call(site.one, site.gateway.project_key, TICKETS, origin=PAGE)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["access-control-allow-origin"] == PAGE
    body = answer.json()
    assert body["origin"] == PAGE
    assert body["subprotocol"] == f"cloister.ticket.{body['ticket']}"
    with from_page(site.one, "realtime", body["subprotocol"]):
        pass


@pytest.mark.parametrize(
    ("origin", "json", "status", "param"),
    [
        (None, {"origin": "https://evil.example"}, 400, "origin"),
        (None, {"origin": f"{PAGE}/"}, 400, "origin"),
        ("https://evil.example", {}, 403, "Origin"),
        ("null", {}, 403, "Origin"),
        (PAGE, {"origin": OTHER_PAGE}, 400, "origin"),
        (None, {"origin": 7}, 400, "origin"),
        (None, {"seconds": 3600}, 400, "seconds"),
    ],
)
def test_a_ticket_that_no_page_could_use_is_not_made(
    site: Site, origin: str | None, json: Any, status: int, param: str
) -> None:
    answer = call(site.one, site.gateway.project_key, TICKETS, origin=origin, json=json)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_only_who_may_open_sockets_gets_tickets(site: Site) -> None:
    chat = new_key(site.one, site.gateway, scopes=["chat"])
    for token, status in ((chat.token, 403), (site.gateway.admin_key, 403), ("clo_x", 401)):
        assert call(site.one, token, TICKETS).status_code == status


def test_a_ticket_is_no_key(site: Site) -> None:
    shown = ticket(site.one, site.gateway.project_key).removeprefix("cloister.ticket.")
    assert call(site.one, shown, "/v1/models", "GET").status_code == 401
    assert refused(site.one, headers={"authorization": f"Bearer {shown}"}) == (401, "invalid_api_key")
    assert refused(site.one, f"openai-insecure-api-key.{shown}") == (401, "invalid_api_key")
    assert refused(site.one, query=f"?ticket={shown}") == (400, "credential_in_url")


@pytest.mark.parametrize("shown", ["", "x", "clot_", "clot_" + "a" * 43, "clot_" + "a" * 44, "clo_" + "a" * 43])
def test_what_is_no_ticket_opens_nothing(site: Site, shown: str) -> None:
    assert refused(site.one, "realtime", f"cloister.ticket.{shown}") == INVALID


def test_redis_has_only_the_hash_of_a_ticket_and_nothing_of_whose_it_is(site: Site, redis_server: RedisServer) -> None:
    shown = ticket(site.one, site.gateway.project_key).removeprefix("cloister.ticket.")
    project = call(site.one, site.gateway.admin_key, f"{ORGANIZATION}/projects", "GET").json()["data"][0]["id"]
    with redis_server.client() as client:
        (name,) = client.keys("ticket:*")
        stored = client.get(name)
        assert 25_000 < client.pttl(name) <= 30_000
        assert isinstance(stored, bytes)
        for secret in (shown, project, PAGE):
            assert secret.encode() not in name + stored
        client.set(name, stored[:-1] + bytes([stored[-1] ^ 1]))
    assert refused(site.one, f"cloister.ticket.{shown}") == INVALID


PRINCIPAL = Principal("proj_a", "svc_a", Credential("api_key", "key_a", 99), frozenset({"api"}), frozenset({"staff"}))


@pytest.fixture
def store(redis: Redis, keyring: Keyring) -> TicketStore:
    return TicketStore(redis, Seals(keyring))


async def test_a_ticket_that_was_used_and_is_put_back_opens_nothing_after_its_time(
    store: TicketStore, redis: Redis
) -> None:
    kept: Any = None
    for seconds in (1, 2, 4, 8, 16):  # long enough for this machine to use it before it is over
        await store.put("clot_x", PRINCIPAL, PAGE, seconds=seconds)
        for name in await redis.keys("ticket:*"):
            kept = await redis.get(name)
        taken = await store.take("clot_x")
        if taken is not None and kept is not None:
            break
    assert taken == (PRINCIPAL, PAGE)
    assert await store.take("clot_x") is None

    async def over() -> bool:
        await redis.set(name, kept)
        return await store.take("clot_x") is None

    await until(over, what="the end of the ticket's time")


async def test_what_stands_for_one_ticket_does_not_stand_for_another(store: TicketStore, redis: Redis) -> None:
    await store.put("clot_x", PRINCIPAL, PAGE, seconds=30)
    (name,) = await redis.keys("ticket:*")
    kept: Any = await redis.get(name)
    await store.put("clot_y", PRINCIPAL, PAGE, seconds=30)
    for every in await redis.keys("ticket:*"):
        await redis.set(every, kept)
    with pytest.raises(VaultError):
        await store.take("clot_y")
