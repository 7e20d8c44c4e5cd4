"""A credential that ends while a request of it is being served ends the request, whatever that is waiting for."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import httpx
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_gateway.app import create_app
from cloister_gateway.identity.revocation import Revocations
from starlette.types import Receive, Scope, Send

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture, secret_file
from tests.support.redis_server import RedisServer
from tests.support.stopwatch import stopwatch
from tests.support.waiting import wait_until

SECONDS = 2.0
"""Within these a revocation holds everywhere."""

SLACK_SECONDS = 3.0
"""What a busy machine may add."""

_Answer = TypeVar("_Answer")

ORGANIZATION = "/v1/organization"
FILE = f"/v1/files/file-{'a' * 48}/content"
SEARCH = f"/v1/vector_stores/vs_{'b' * 48}/search"


class Silent:
    """Retriever and embedder: reads what it is sent and never answers; or answers one byte and no more."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.left = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        if scope["path"] == "/internal/ingestions":
            await _gone(receive)  # a gateway looks there by itself
            return
        self.asked.set()
        if scope["path"] == FILE:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await _gone(receive)
        self.left.set()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.fixture
def silent() -> Silent:
    return Silent()


@pytest.fixture
def gateway(make_gateway: Callable[..., GatewayFixture], silent: Silent, tmp_path: Any) -> Iterator[GatewayFixture]:
    token = str(secret_file(tmp_path / "secrets", "token", INTERNAL_TOKEN))
    with served(silent) as url:
        behind = {"url": url, "token_file": token}
        yield make_gateway(retriever=behind, embedder=behind)


class Key(NamedTuple):
    """A key and how to end it."""

    token: str
    id: str
    path: str
    project: str


def administer(url: str, gateway: GatewayFixture, path: str, method: str = "POST", **json: Any) -> dict[str, Any]:
    answer = httpx.request(method, f"{url}{ORGANIZATION}{path}", headers=gateway.headers(gateway.admin_key), json=json)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def new_key(url: str, gateway: GatewayFixture, **options: Any) -> Key:
    project = f"/projects/{administer(url, gateway, '/projects', name='p')['id']}"
    made = administer(url, gateway, f"{project}/service_accounts", name="bot", **options)["api_key"]
    return Key(made["value"], made["id"], f"{project}/api_keys/{made['id']}", project)


def new_admin_key(url: str, gateway: GatewayFixture) -> Key:
    made = administer(url, gateway, "/admin_api_keys", name="second")
    return Key(made["value"], made["id"], f"/admin_api_keys/{made['id']}", "")


def soon(answer: Callable[[], _Answer], seconds: float = SECONDS) -> _Answer:
    """What ``answer`` gives, which may take ``seconds`` and what a busy machine adds."""
    with stopwatch() as waiting:
        given = answer()
    assert waiting.seconds < seconds + SLACK_SECONDS
    return given


@contextmanager
def held_body(url: str, key: Key, path: str) -> Iterator[http.client.HTTPConnection]:
    """A request whose body has begun and does not go on."""
    address = httpx.URL(url)
    connection = http.client.HTTPConnection(address.host, address.port, timeout=60)
    connection.putrequest("POST", path)
    for name, value in (
        ("authorization", f"Bearer {key.token}"),
        ("content-type", "multipart/form-data; boundary=x" if path == "/v1/files" else "application/json"),
        ("content-length", "1000"),
    ):
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(b'{"metad')
    try:
        yield connection
    finally:
        connection.close()


def refusal(connection: http.client.HTTPConnection, seconds: float = SECONDS) -> tuple[int, str]:
    """The status and the code of the answer to what was never sent whole."""
    answer = soon(connection.getresponse, seconds)
    body = httpx.Response(answer.status, content=answer.read()).json()
    assert answer.headers["www-authenticate"] == "Bearer"
    return answer.status, body["error"]["code"]


class Door(NamedTuple):
    """A gateway, and how many requests it is serving."""

    url: str
    revocations: Revocations

    def requests(self) -> int:
        """How many are past the guard."""
        return self.revocations.watched

    def wait_for_requests(self, number: int = 1) -> None:
        """Waits until so many are past the guard."""
        wait_until(lambda: self.requests() == number, what=f"{number} requests past the guard")

    def has_request_before(self, end: float) -> bool:
        """Waits until one is past the guard, or the clock says ``end``; which of them came first."""
        wait_until(lambda: self.requests() == 1 or time.time() > end, what="a request past the guard, or its end")
        return self.requests() == 1


@pytest.fixture
def door(gateway: GatewayFixture) -> Iterator[Door]:
    app = create_app(gateway.settings)
    with served(app) as url:
        yield Door(url, app.state.context.authenticator.revocations)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/conversations",
        "/v1/responses",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/files",
        SEARCH,
        f"{ORGANIZATION}/projects",
    ],
)
def test_a_request_whose_key_is_revoked_before_its_body_is_there_is_refused(
    path: str, gateway: GatewayFixture, door: Door
) -> None:
    key = (new_admin_key if path.startswith(ORGANIZATION) else new_key)(door.url, gateway)
    with held_body(door.url, key, path) as request:
        door.wait_for_requests()
        administer(door.url, gateway, key.path, "DELETE")
        assert refusal(request) == (401, "invalid_api_key")


def test_a_request_ends_when_its_project_is_archived_on_another_gateway(gateway: GatewayFixture, door: Door) -> None:
    key = new_key(door.url, gateway)
    with gateway.serve() as other, held_body(door.url, key, "/v1/conversations") as request:
        door.wait_for_requests()
        administer(other, gateway, f"{key.project}/archive")
        assert refusal(request) == (401, "invalid_api_key")


def test_a_request_ends_in_the_second_in_which_its_key_expires(gateway: GatewayFixture, door: Door) -> None:
    for lifetime in (2, 4, 8, 16, 32):  # long enough for this machine to have the request held before it is over
        key = new_key(door.url, gateway, expires_in_seconds=lifetime)
        over = time.time() + lifetime
        with held_body(door.url, key, "/v1/conversations") as request:
            held = door.has_request_before(over)
            assert refusal(request, lifetime) == (401, "expired_api_key")
        if held:
            return
    pytest.fail("no key lived long enough for its request to be held")


@pytest.mark.parametrize("how", ["revoked", "archived"])
def test_a_request_ends_even_if_the_word_of_it_is_lost(
    how: str, gateway: GatewayFixture, door: Door, redis_server: RedisServer
) -> None:
    key = new_key(door.url, gateway)
    with held_body(door.url, key, "/v1/conversations") as request, redis_server.client() as redis:
        door.wait_for_requests()
        if how == "revoked":
            redis.delete(f"identity:key:{key.id}")
        else:
            redis.hset(f"identity:project:{key.project.split('/')[2]}", "archived_at", "1")
        assert refusal(request) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "m", "input": "x"}),
        ("/v1/rerank", {"model": "m", "query": "x", "documents": ["y"]}),
        (SEARCH, {"query": "x"}),
    ],
)
def test_a_request_that_waits_for_another_service_ends_with_its_key(
    path: str, body: dict[str, Any], gateway: GatewayFixture, door: Door, silent: Silent
) -> None:
    key = new_key(door.url, gateway)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(httpx.post, door.url + path, headers=gateway.headers(key.token), json=body, timeout=30)
        assert silent.asked.wait(30)
        administer(door.url, gateway, key.path, "DELETE")
        assert soon(answer.result).status_code == 401
    assert silent.left.wait(30), "the call behind the gateway went on"


def test_a_download_is_cut_off_with_its_key(gateway: GatewayFixture, door: Door, silent: Silent) -> None:
    key = new_key(door.url, gateway)
    with httpx.stream("GET", door.url + FILE, headers=gateway.headers(key.token), timeout=30) as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == b"x"
        administer(door.url, gateway, key.path, "DELETE")
        with pytest.raises(httpx.RemoteProtocolError):
            next(pieces)
    assert silent.left.wait(30), "the call behind the gateway went on"


def test_a_turn_that_waits_for_its_conversation_is_refused_and_nothing_is_left_of_it(
    gateway: GatewayFixture, door: Door, llm: FakeLlm
) -> None:
    path, headers = f"{door.url}/v1/responses", gateway.headers
    key = new_key(door.url, gateway)
    account = administer(door.url, gateway, f"{key.project}/service_accounts", name="first")["api_key"]["value"]
    talk = httpx.post(f"{door.url}/v1/conversations", headers=headers(account), json={}).json()["id"]
    body = {"model": "fake", "conversation": talk, "stream": True}
    llm.hold_after = 1
    with httpx.stream("POST", path, headers=headers(account), json={**body, "input": "first"}) as first:
        pieces = first.iter_text()
        assert "response.created" in next(pieces)
        with ThreadPoolExecutor() as pool:
            second = pool.submit(
                httpx.post, path, headers=headers(key.token), json={**body, "input": "second"}, timeout=30
            )
            door.wait_for_requests(2)
            administer(door.url, gateway, key.path, "DELETE")
            assert soon(second.result).status_code == 401
        llm.release()
        for _ in pieces:
            pass
    items = httpx.get(f"{door.url}/v1/conversations/{talk}/items", headers=headers(account)).json()["data"]
    assert [item["role"] for item in items] == ["assistant", "user"]
    assert "second" not in str(items)


def test_who_revokes_the_key_they_call_with_gets_an_answer(gateway: GatewayFixture, door: Door) -> None:
    key = new_admin_key(door.url, gateway)
    path = f"{door.url}{ORGANIZATION}{key.path}"
    answers = [httpx.delete(path, headers=gateway.headers(key.token)).status_code for _ in range(2)]
    assert answers == [200, 401]


def test_nothing_is_watched_any_more_when_it_has_been_answered(gateway: GatewayFixture, door: Door) -> None:
    for path in ("/v1/models", "/v1/no_such_path", "/v1/responses/resp_none"):
        httpx.get(door.url + path, headers=gateway.headers())
    httpx.post(f"{door.url}/v1/conversations", headers=gateway.headers(), json={})
    door.wait_for_requests(0)
