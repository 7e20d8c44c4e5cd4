"""Who may pass: the ASGI guard before every route, and the scope each route asks for.

The guard authenticates each request under ``/v1`` and ``/cloister`` before its body is read, known path or not; so a
route that forgot to ask for a scope is still closed to strangers, and strangers learn nothing from a 404. It stays: a
request whose credential ends while it is served gets a 401, or is cut off if its answer has begun.
"""

from collections.abc import Awaitable, Callable

from cloister_common.errors import Unauthenticated
from cloister_common.logs import bind_log_fields
from fastapi import Depends
from redis.exceptions import RedisError
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.principal import Principal
from cloister_gateway.storage.client import REDIS_DOWN
from cloister_gateway.wire.faults import fault_of

__all__ = ["LET_END", "OPEN_PATHS", "GuardMiddleware", "log_caller", "require"]

OPEN_PATHS = frozenset({"/livez", "/readyz"})
"""All that answers without a credential."""


class GuardMiddleware:
    """Authenticates every HTTP request but those of `OPEN_PATHS`. WebSockets authenticate in their own handshake."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        authenticator: Authenticator = scope["app"].state.context.authenticator
        try:
            principal = await authenticator.authenticate(Headers(scope=scope))
        except (*REDIS_DOWN, RedisError) as error:
            raise fault_of(error) from error
        log_caller(principal)
        async with authenticator.while_valid(principal) as validity:
            scope.setdefault("state", {}).update(principal=principal, validity=validity)
            await self.app(scope, receive, send)


def log_caller(principal: Principal) -> None:
    """Has the log lines of this request say whose it is: an administration key has no project."""
    if principal.tenant:
        bind_log_fields(project=principal.tenant)
    bind_log_fields(key_id=principal.key_id)


def require(scope: str) -> Callable[[HTTPConnection], Awaitable[Principal]]:
    """A dependency that gives the caller, after checking that its credential covers ``scope``.

    Use it as ``Annotated[Principal, Depends(require("responses"))]``.
    """

    async def caller(connection: HTTPConnection) -> Principal:
        principal: Principal | None = connection.scope.get("state", {}).get("principal")
        if principal is None:
            raise Unauthenticated("No API key was verified for this connection.")
        principal.require(scope)
        return principal

    return caller


async def _let_end(connection: HTTPConnection) -> None:
    connection.scope["state"]["validity"].let_end()


LET_END = Depends(_let_end)
"""A dependency of routes that write in a few short steps. Their bodies have been read when it is asked for: from there
on they are done whole, whatever becomes of the credential. Who revokes the key they call with still gets an answer."""
