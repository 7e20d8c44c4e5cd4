"""Who may pass: the ASGI guard before every route, and the scope each route asks for.

The guard authenticates each request and each WebSocket before its body is read or it is accepted, known path or not;
so a route that forgot to ask for a scope is still closed to strangers, and strangers learn nothing from a 404. A route
is open only if it says so (`OPEN`). Of a WebSocket it looks at the origin before anything else: a browser opens one for
any page, and asks nobody. The guard stays: a request whose credential ends while it is served gets a 401, or
is cut off if its answer has begun; a socket is closed.
"""

from collections.abc import Collection, Iterable

from cloister_common.access import Direct, services_of
from cloister_common.browsers import Origins, sent_origin
from cloister_common.errors import CloisterError, Forbidden, Unauthenticated
from cloister_common.logs import bind_log_fields
from cloister_common.middleware import HEALTH_PATHS, error_response
from fastapi import Depends
from fastapi.routing import APIRoute
from redis.exceptions import RedisError
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.first_message import FirstMessage, Strangers
from cloister_gateway.identity.handshake import TICKET_FOLLOWS, presented, refuse_in_url
from cloister_gateway.identity.principal import Principal
from cloister_gateway.identity.tickets import Tickets
from cloister_gateway.storage.client import REDIS_DOWN
from cloister_gateway.wire.closing import close_socket
from cloister_gateway.wire.faults import fault_of

__all__ = ["LET_END", "OPEN", "GuardMiddleware", "open_routes", "require"]


async def _open() -> None:
    """Asks for nothing: it marks the route."""


OPEN = Depends(_open)
"""Marks a route (``dependencies=[OPEN]``) that answers without a credential. All others are closed."""


def open_routes(routes: Iterable[BaseRoute]) -> list[APIRoute]:
    """Those of ``routes`` that need no credential: marked `OPEN`, or a health route of the shell."""
    return [
        route
        for route in routes
        if isinstance(route, APIRoute) and (OPEN in route.dependencies or route.path in HEALTH_PATHS)
    ]


class GuardMiddleware:
    """Authenticates every request and every WebSocket, but for those of open routes.

    Args:
        app: What it guards.
        open_routes: Those that need no credential.
        origins: Whose pages may open WebSockets.
    """

    def __init__(self, app: ASGIApp, *, open_routes: Collection[APIRoute], origins: Origins | None = None) -> None:
        self.app = app
        self.origins = origins or Origins()
        self.strangers = Strangers()
        # Few have variables in their paths: only they are worth a pattern for each request.
        self.open_paths = {route.path: route for route in open_routes if not route.param_convertors}
        self.open_patterns = [route for route in open_routes if route.param_convertors]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_open(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._serve_socket(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        candidates = [self.open_paths[scope["path"]]] if scope["path"] in self.open_paths else self.open_patterns
        return any(route.matches(scope)[0] is not Match.NONE for route in candidates)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, first_message: FirstMessage | None = None
    ) -> None:
        authenticator = services_of(scope["app"]).get(Authenticator)
        try:
            refuse_in_url(scope)
            if scope["type"] == "websocket":
                principal = await self._opener(scope, authenticator, first_message)
            else:
                principal = await authenticator.authenticate(Headers(scope=scope))
        except (*REDIS_DOWN, RedisError) as error:
            raise fault_of(error) from error
        _log_caller(principal)
        async with authenticator.while_valid(principal) as validity:
            scope.setdefault("state", {}).update(principal=principal, validity=validity)
            await self.app(scope, receive, send)

    async def _opener(
        self, scope: Scope, authenticator: Authenticator, first_message: FirstMessage | None
    ) -> Principal:
        """Who opens a socket, by key or by ticket.

        Raises:
            Forbidden: A page of an origin that is not listed opens it, whoever it is.
            Unauthenticated: As `Authenticator.authenticate`, `Tickets.redeem`, `FirstMessage.ticket`.
        """
        origin = sent_origin(scope["headers"])
        if origin is not None and origin not in self.origins:
            raise Forbidden(
                "WebSockets are not opened from this origin. The operator lists those of pages that may, exactly as "
                "browsers send them, in 'browsers.origins'; a client that is no browser sends no Origin header.",
                param="Origin",
                code="origin_not_allowed",
            )
        headers, ticket, _ = presented(scope)
        if first_message is not None:
            with self.strangers.one():
                ticket = await first_message.ticket()
        if ticket is not None:
            return await services_of(scope["app"]).get(Tickets).redeem(ticket, origin)
        return await authenticator.authenticate(headers)

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As a request. What it is refused with is an HTTP answer to the handshake, and after that a close code."""
        answered: str | None = None
        first_message: FirstMessage | None = None
        if TICKET_FOLLOWS in scope.get("subprotocols", ()):
            first_message = FirstMessage(scope, receive, send)
            receive, send = first_message.receive, first_message.send

        async def watched(message: Message) -> None:
            nonlocal answered
            answered = answered or message["type"]
            await send(message)

        try:
            await self._serve(scope, receive, watched, first_message)
        except CloisterError as error:
            if answered is None:
                await error_response(error)(scope, receive, send)
            elif answered == "websocket.accept":
                await close_socket(send, type(error).close_code, "The credential of this connection has ended.")


def _log_caller(principal: Principal) -> None:
    """Has the log lines of this request say whose it is: an administration key has no project."""
    project = {"project": principal.tenant} if principal.tenant else {}
    bind_log_fields(**project, key_id=principal.credential.id)


def require(scope: str, *others: str) -> Direct[Principal]:
    """A dependency that gives the caller, after checking that its credential covers ``scope``, or one of the others.

    Use it as ``Annotated[Principal, Depends(require("responses"))]``.
    """

    def caller(connection: HTTPConnection) -> Principal:
        principal: Principal | None = connection.scope.get("state", {}).get("principal")
        if principal is None:
            raise Unauthenticated("No API key was verified for this connection.")
        if not any(map(principal.allows, others)):
            principal.require(scope)
        return principal

    return Direct(caller)


LET_END = Depends(Direct(lambda connection: connection.scope["state"]["validity"].let_end()))
"""A dependency of routes that write in a few short steps. Their bodies have been read when it is asked for: from there
on they are done whole, whatever becomes of the credential. Who revokes the key they call with still gets an answer."""
