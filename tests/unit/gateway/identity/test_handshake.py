"""What a WebSocket's handshake presents as a credential, and what must not stand in a URL."""

from typing import Any

import pytest
from cloister_common.errors import InvalidRequest
from cloister_gateway.identity import tokens
from cloister_gateway.identity.handshake import answered, presented, refuse_in_url

KEY = tokens.mint().token
TICKET = "clot_" + "a" * 43


def handshake(*subprotocols: str, authorization: str | None = None) -> dict[str, Any]:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    return {"type": "websocket", "headers": headers, "subprotocols": list(subprotocols)}


def test_a_key_is_found_in_openais_subprotocol_and_in_the_header() -> None:
    for scope in (
        handshake("realtime", f"openai-insecure-api-key.{KEY}", "openai-project.x"),
        handshake("realtime", authorization=f"Bearer {KEY}"),
    ):
        shown = presented(scope)
        assert shown.headers["authorization"] == f"Bearer {KEY}"
        assert shown.ticket is None


def test_a_ticket_is_found_in_its_subprotocol() -> None:
    assert presented(handshake("realtime", f"cloister.ticket.{TICKET}")) == ({}, TICKET, False)


def test_a_ticket_is_announced_for_the_first_message() -> None:
    assert presented(handshake("realtime", "cloister.ticket")) == ({}, None, True)


@pytest.mark.parametrize(
    ("named", "answer"),
    [
        (["realtime", "cloister.ticket"], "realtime"),
        (["cloister.ticket"], "cloister.ticket"),
        (["x", "responses"], "responses"),
        ([f"cloister.ticket.{TICKET}", f"openai-insecure-api-key.{KEY}"], None),
    ],
)
def test_no_credential_is_answered(named: list[str], answer: str | None) -> None:
    assert answered(handshake(*named)) == answer


@pytest.mark.parametrize(
    "scope",
    [
        handshake(f"openai-insecure-api-key.{KEY}", authorization=f"Bearer {KEY}"),
        handshake(f"cloister.ticket.{TICKET}", authorization=f"Bearer {KEY}"),
        handshake(f"cloister.ticket.{TICKET}", f"openai-insecure-api-key.{KEY}"),
        handshake(f"openai-insecure-api-key.{KEY}", f"openai-insecure-api-key.{KEY}"),
        handshake("cloister.ticket", authorization=f"Bearer {KEY}"),
        handshake("cloister.ticket", f"cloister.ticket.{TICKET}"),
    ],
)
def test_of_several_credentials_none_is_chosen(scope: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        presented(scope)
    assert refused.value.error_code == "several_credentials"


@pytest.mark.parametrize(
    "query",
    [
        "api_key=x",
        "api-key=x",
        "limit=1&Authorization=Bearer%20x",
        "access_token=x",
        "ticket=x",
        "token=",
        f"whatever={KEY}",
        f"whatever=Bearer+{KEY}",
        KEY,
        f"x={TICKET}",
        f"x=%63lo{KEY[3:]}",
    ],
)
def test_a_credential_in_a_url_is_refused_and_not_repeated(query: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        refuse_in_url({"query_string": query.encode()})
    assert refused.value.error_code == "credential_in_url"
    assert KEY not in refused.value.message


@pytest.mark.parametrize("query", ["", "limit=20&after=key_x", "include[]=a", "model=gpt&max_tokens=3", "q=the+token"])
def test_other_queries_pass(query: str) -> None:
    refuse_in_url({"query_string": query.encode()})
