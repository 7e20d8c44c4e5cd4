"""The WebSocket endpoint. Who it is, the guard has found out: what is refused here is refused before it is accepted."""

from typing import Annotated

from cloister_common.access import provided
from cloister_common.logs import get_logger
from fastapi import APIRouter, Depends, WebSocket

from cloister_gateway.identity.guard import require
from cloister_gateway.identity.principal import Principal
from cloister_gateway.sockets.service import SocketService
from cloister_gateway.wire.closing import close_socket

__all__ = ["router"]

log = get_logger(__name__)

router = APIRouter()


@router.websocket("/v1/responses")
async def responses(
    socket: WebSocket,
    caller: Annotated[Principal, Depends(require("responses"))],
    sockets: Annotated[SocketService, Depends(provided(SocketService))],
) -> None:
    """OpenAI's WebSocket mode of the Responses API."""
    with sockets.admitted(caller.tenant):
        await socket.accept()
        log.info("socket_opened")
        end = await sockets.session(socket, caller).run()
        if end is not None:
            await close_socket(socket.send, end.code, end.reason)
