"""``POST /cloister/v1/socket-tickets``: what a page opens a WebSocket with instead of a key."""

from typing import Annotated, Any

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from cloister_common.browsers import Origins, sent_origin
from cloister_common.errors import Forbidden, InvalidRequest
from cloister_common.wire.requests import RequestModel
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from cloister_gateway.identity.guard import require
from cloister_gateway.identity.handshake import TICKET_SUBPROTOCOL
from cloister_gateway.identity.principal import Principal
from cloister_gateway.identity.tickets import Tickets
from cloister_gateway.wire.query import only_query

__all__ = ["router"]

router = APIRouter(route_class=JsonRoute)

Caller = Annotated[Principal, Depends(require("responses"))]


class TicketCreate(RequestModel):
    """For whom a ticket is. All of it may lack, the body too."""

    origin: str | None = None
    """The origin of the page that will open the socket. A page that asks for its own ticket need not say it."""


@router.post("/cloister/v1/socket-tickets")
async def create_ticket(
    request: Request,
    caller: Caller,
    tickets: Annotated[Tickets, Depends(provided(Tickets))],
    origins: Annotated[Origins, Depends(provided(Origins))],
    body: TicketCreate | None = None,
) -> JSONResponse:
    """Makes a ticket; it is shown here and never again."""
    only_query(request, ())
    origin = _origin(sent_origin(request.headers.raw), body.origin if body is not None else None, origins)
    ticket = await tickets.issue(caller, origin)
    shown: dict[str, Any] = {
        "object": "socket_ticket",
        "ticket": ticket.token,
        "subprotocol": TICKET_SUBPROTOCOL + ticket.token,
        "origin": origin,
        "expires_at": ticket.expires_at,
    }
    return JSONResponse(shown, headers={"cache-control": "no-store"})


def _origin(sent: str | None, asked: str | None, origins: Origins) -> str | None:
    """The origin that a ticket is for: the page's that asks, or the one that a server asks for. None is no browser."""
    if sent is not None and sent not in origins:
        raise Forbidden(
            "This origin opens no WebSockets, so there is no ticket for it: the operator lists in 'browsers.origins' "
            "those that do.",
            param="Origin",
            code="origin_not_allowed",
        )
    if asked is not None and asked not in origins:
        raise InvalidRequest(
            "'origin' is not among those that may open WebSockets. The operator lists them, exactly as browsers send "
            "them, in 'browsers.origins'.",
            param="origin",
            code="origin_not_allowed",
        )
    if sent is not None and asked is not None and sent != asked:
        raise InvalidRequest("'origin' is another than that of the page which asks. Leave it out.", param="origin")
    return sent or asked
