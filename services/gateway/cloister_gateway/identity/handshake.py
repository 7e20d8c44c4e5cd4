"""What proves who opens a WebSocket.

A program sends ``Authorization``, as with every request. A page in a browser can set no headers for a WebSocket, but it
names subprotocols, and OpenAI's libraries make one of them the key: ``["realtime", "openai-insecure-api-key.KEY"]``
(openai-node, ``realtime/websocket.ts``). In the same way it can send a ticket, which is worth nothing afterwards. Or it
names ``cloister.ticket`` and sends the ticket in its first message, for where something on the way logs subprotocols.
What is answered is another of the subprotocols it named: a credential is never sent back.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_plus

from cloister_common.errors import InvalidRequest
from starlette.datastructures import Headers
from starlette.types import Scope

from cloister_gateway.identity import tickets, tokens

__all__ = [
    "KEY_SUBPROTOCOL",
    "TICKET_FOLLOWS",
    "TICKET_SUBPROTOCOL",
    "Presented",
    "answered",
    "presented",
    "refuse_in_url",
]

KEY_SUBPROTOCOL = "openai-insecure-api-key."
TICKET_SUBPROTOCOL = "cloister.ticket."
TICKET_FOLLOWS = "cloister.ticket"
"""Says that a ticket comes in the first message."""

_ANSWERED = ("realtime", "responses", TICKET_FOLLOWS)
"""What a browser may name beside its credential, and is answered: a page that names any gets its socket only if one of
them is. The first is what OpenAI's library names. The first two mean what is spoken here without any."""

_IN_URL = re.compile(
    rf"(?:^|[&;])(?:api[-_]?key|authorization|access[-_]token|token|ticket)="
    rf"|{tokens.PREFIX}[0-9A-Za-z]{{16}}_|{tickets.PREFIX}[0-9A-Za-z]{{43}}",
    re.IGNORECASE,
)
"""A parameter that is there for a credential, or a key or ticket of ours under any name."""


class Presented(NamedTuple):
    """What a handshake presents: one of the three, or none.

    Attributes:
        headers: Headers in which a key may stand.
        ticket: A ticket.
        follows: Whether a ticket comes in the first message.
    """

    headers: Mapping[str, str]
    ticket: str | None = None
    follows: bool = False


def presented(scope: Scope) -> Presented:
    """What the handshake presents.

    Raises:
        InvalidRequest: More than one credential: which of them was meant is not guessed.
    """
    headers = Headers(scope=scope)
    named = scope.get("subprotocols", ())
    keys = [name.removeprefix(KEY_SUBPROTOCOL) for name in named if name.startswith(KEY_SUBPROTOCOL)]
    shown = [name.removeprefix(TICKET_SUBPROTOCOL) for name in named if name.startswith(TICKET_SUBPROTOCOL)]
    follows = TICKET_FOLLOWS in named
    if not keys and not shown and not follows:
        return Presented(headers)
    if len(keys) + len(shown) + follows + ("authorization" in headers) > 1:
        raise InvalidRequest(
            "The handshake has several credentials. Send one: in the Authorization header, or, from a browser, in one "
            "subprotocol.",
            code="several_credentials",
        )
    if follows:
        return Presented({}, follows=True)
    return Presented({}, shown[0]) if shown else Presented({"authorization": f"Bearer {keys[0]}"})


def answered(scope: Scope) -> str | None:
    """Which of the subprotocols that a handshake names is answered, if any."""
    return next((name for name in scope["subprotocols"] if name in _ANSWERED), None)


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
