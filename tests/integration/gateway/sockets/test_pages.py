"""What pages in browsers may do at a gateway: those of listed origins what their keys may, all others nothing."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.gateway import GatewayFixture
from tests.support.pages import PAGE, call, from_page, new_key, refused
from tests.support.sockets import ask, text_of, turn

ANSWER = "Hello, this is the fake."


class Site(NamedTuple):
    """A gateway that one page may call."""

    gateway: GatewayFixture
    url: str

    @property
    def subprotocol(self) -> str:
        """OpenAI's form of the key."""
        return f"openai-insecure-api-key.{self.gateway.project_key}"


@pytest.fixture
def site(make_gateway: Callable[..., GatewayFixture]) -> Iterator[Site]:
    gateway = make_gateway(browsers={"origins": [PAGE]})
    with gateway.serve() as url:
        yield Site(gateway, url)


@pytest.mark.parametrize("named", [("realtime",), ("responses",), ("openai-beta.x", "realtime", "responses")])
def test_a_page_opens_a_socket_with_openais_subprotocol(site: Site, named: tuple[str, ...]) -> None:
    with from_page(site.url, *named, site.subprotocol) as socket:
        assert socket.subprotocol == next(name for name in named if "." not in name)
        assert socket.response is not None
        assert site.gateway.project_key.encode() not in socket.response.serialize()
        ask(socket)
        assert text_of(turn(socket)) == ANSWER


def test_a_credential_is_not_answered_even_where_nothing_else_was_named(site: Site) -> None:
    with from_page(site.url, site.subprotocol) as socket:
        assert socket.subprotocol is None


def test_a_client_that_is_no_browser_may_send_its_key_in_either_way(site: Site) -> None:
    for named, headers in ((("realtime", site.subprotocol), {}), (("realtime",), dict(site.gateway.headers()))):
        with from_page(site.url, *named, page=None, headers=headers) as socket:
            assert socket.subprotocol == "realtime"


@pytest.mark.parametrize("page", ["https://evil.example", "null", f"{PAGE}:444", "http://chat.example.org"])
def test_a_page_that_is_not_listed_opens_nothing_whatever_it_has(site: Site, page: str) -> None:
    denied = (403, "origin_not_allowed")
    assert refused(site.url, "realtime", site.subprotocol, page=page) == denied
    assert refused(site.url, page=page, headers=dict(site.gateway.headers())) == denied
    assert refused(site.url, page=page) == denied


def test_without_a_list_no_page_opens_anything(gateway: GatewayFixture, gateway_url: str) -> None:
    assert refused(gateway_url, page=PAGE, headers=dict(gateway.headers()))[0] == 403


def test_a_wrong_key_in_a_subprotocol_is_told_as_one_in_a_header(site: Site) -> None:
    assert refused(site.url, "realtime", site.subprotocol[:-1]) == (401, "invalid_api_key")
    assert refused(site.url, "realtime", "openai-insecure-api-key.") == (401, "missing_api_key")
    assert refused(site.url, "realtime") == (401, "missing_api_key")
    assert refused(site.url, site.subprotocol, headers=dict(site.gateway.headers())) == (400, "several_credentials")


@pytest.mark.parametrize("name", ["api_key", "access_token", "x"])
def test_a_key_in_a_url_is_refused_with_the_reason(site: Site, name: str) -> None:
    query = f"?{name}={site.gateway.project_key}"
    assert refused(site.url, page=None, query=query) == (400, "credential_in_url")
    # Also where another is where it belongs: this one is in the logs of every proxy by now.
    assert refused(site.url, site.subprotocol, query=query) == (400, "credential_in_url")
    answer = call(site.url, site.gateway.project_key, f"/v1/models{query}", "GET")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "credential_in_url")
    assert site.gateway.project_key not in answer.text


def test_a_socket_with_its_key_in_a_subprotocol_is_closed_when_that_is_revoked(site: Site) -> None:
    key = new_key(site.url, site.gateway)
    with from_page(site.url, "realtime", f"openai-insecure-api-key.{key.token}") as socket:
        assert call(site.url, site.gateway.admin_key, key.path, "DELETE").status_code == 200
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


def test_a_page_reads_a_stream_and_a_refusal(site: Site) -> None:
    turn = {"model": "fake", "input": "hi", "stream": True}
    for key, status in ((site.gateway.project_key, 200), ("wrong", 401)):
        answer = call(site.url, key, "/v1/responses", origin=PAGE, json=turn)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer.headers
        assert ("response.completed" in answer.text) == (status == 200)


def test_a_page_is_told_what_it_may_without_a_key(site: Site) -> None:
    asks = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,openai-project,x-stainless-lang",
    }
    answer = httpx.options(f"{site.url}/v1/responses", headers={"origin": PAGE, **asks})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-headers"] == asks["access-control-request-headers"]
    other = httpx.options(f"{site.url}/v1/responses", headers={"origin": "https://evil.example", **asks})
    assert other.status_code == 401
    assert not [name for name in other.headers if name.startswith("access-control-")]
