"""The WebSocket endpoint. Who it is, the guard has found out: what is refused here is refused before it is accepted."""

from cloister_common.access import services_of
from cloister_common.doors.frame_writer import FRAMES
from fastapi import APIRouter
from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from cloister_gateway.identity.guard import require
from cloister_gateway.identity.handshake import answered
from cloister_gateway.sockets.service import SocketService
from cloister_gateway.wire.closing import close_socket

__all__ = ["router"]

_caller = require("responses")


class ResponsesSocket:
    """OpenAI's WebSocket mode of the Responses API.

    An ASGI application: FastAPI's way to an endpoint costs each socket 0.2 ms when it opens, and 4 KB for its life. It
    needs a server that gives it a `FrameWriter`, as all of ours do.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one socket."""
        scope["route"] = _ROUTE  # as FastAPI's routes do; the log line names it
        caller = await _caller(HTTPConnection(scope))
        sockets = services_of(scope["app"]).get(SocketService)
        with sockets.admitted(caller.tenant):
            await receive()
            await send({"type": "websocket.accept", "subprotocol": answered(scope)})
            end = await sockets.session(receive, scope["extensions"][FRAMES], caller).run()
            if end is not None:
                await close_socket(send, end.code, end.reason)


_ROUTE = WebSocketRoute("/v1/responses", ResponsesSocket())
router = APIRouter(routes=[_ROUTE])
