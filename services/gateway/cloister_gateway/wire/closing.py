"""How the gateway closes a WebSocket: with a code that says what to do, told to the client if it still listens."""

import asyncio
from contextlib import suppress

from cloister_common.disconnect import SOCKET_GONE
from cloister_common.logs import get_logger
from prometheus_client import Counter
from starlette.types import Send

__all__ = ["close_socket"]

log = get_logger(__name__)
_CLOSED = Counter("cloister_sockets_closed_total", "WebSockets that the gateway closed, by close code.", ["code"])

_CLOSE_SECONDS = 30.0
"""A client that does not read does not take the close frame either. One that reads again within this learns why."""


async def close_socket(send: Send, code: int, reason: str) -> None:
    """Closes an accepted socket. That its client has gone, or does not take the frame in time, is no error."""
    log.info("socket_closed", code=code)
    _CLOSED.labels(code).inc()
    with suppress(TimeoutError, *SOCKET_GONE):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await send({"type": "websocket.close", "code": code, "reason": reason})
