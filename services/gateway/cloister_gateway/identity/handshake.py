"""What proves who opens a WebSocket.

A program sends ``Authorization``, as with every request. A page in a browser can set no headers for a WebSocket, but it
names subprotocols, and OpenAI's libraries make one of them the key: ``["realtime", "openai-insecure-api-key.KEY"]``
(openai-node, ``realtime/websocket.ts``). In the same way it can send a ticket, which is worth nothing afterwards. What
is answered is another of the subprotocols it named: a credential is never sent back.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_plus

from cloister_common.errors import InvalidRequest
from starlette.datastructures import Headers
from starlette.types import Scope

from cloister_gateway.identity import tickets, tokens

__all__ = ["KEY_SUBPROTOCOL", "TICKET_SUBPROTOCOL", "Presented", "presented", "refuse_in_url"]

KEY_SUBPROTOCOL = "openai-insecure-api-key."
TICKET_SUBPROTOCOL = "cloister.ticket."

_IN_URL = re.compile(
    rf"(?:^|[&;])(?:api[-_]?key|authorization|access[-_]token|token|ticket)="
    rf"|{tokens.PREFIX}[0-9A-Za-z]{{16}}_|{tickets.PREFIX}[0-9A-Za-z]{{43}}",
    re.IGNORECASE,
)
"""A parameter that is there for a credential, or a key or ticket of ours under any name."""


class Presented(NamedTuple):
    """What a handshake presents: one of the two, or neither.

    Attributes:
        headers: Headers in which a key may stand.
        ticket: A ticket.
    """

    headers: Mapping[str, str]
    ticket: str | None = None


def presented(scope: Scope) -> Presented:
    """What the handshake presents.

    Raises:
        InvalidRequest: More than one credential: which of them was meant is not guessed.
    """
    headers = Headers(scope=scope)
    named = scope.get("subprotocols", ())
    keys = [name.removeprefix(KEY_SUBPROTOCOL) for name in named if name.startswith(KEY_SUBPROTOCOL)]
    shown = [name.removeprefix(TICKET_SUBPROTOCOL) for name in named if name.startswith(TICKET_SUBPROTOCOL)]
    if not keys and not shown:
        return Presented(headers)
    if len(keys) + len(shown) + ("authorization" in headers) > 1:
        raise InvalidRequest(
            "The handshake has several credentials. Send one: in the Authorization header, or, from a browser, in one "
            "subprotocol.",
            code="several_credentials",
        )
    return Presented({}, shown[0]) if shown else Presented({"authorization": f"Bearer {keys[0]}"})


def refuse_in_url(scope: Scope) -> None:
    """Refuses a request, of a socket or not, whose URL has a credential in it: logs and histories keep URLs.

    Raises:
        InvalidRequest: It does.
    """
    query = scope.get("query_string")
    if query and _IN_URL.search(unquote_plus(query.decode("latin-1"))):
        raise InvalidRequest(
            "A credential must not stand in a URL, which logs and histories keep. Send it in the Authorization header; "
            "from a browser's WebSocket in a subprotocol, best a ticket of POST /cloister/v1/socket-tickets. If it was "
            "an API key, revoke it.",
            code="credential_in_url",
        )
