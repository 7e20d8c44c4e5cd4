"""The WebSocket endpoint: authenticate before accepting, serve, close with a code that says what to do."""

import asyncio
from collections import Counter
from contextlib import suppress

from cloister_common.app import error_response
from cloister_common.disconnect import SOCKET_GONE
from cloister_common.errors import CloisterError, TooManyRequests, Unauthenticated
from cloister_common.logs import get_logger
from fastapi import APIRouter, WebSocket
from prometheus_client import Counter as MetricCounter
from prometheus_client import Gauge
from redis.exceptions import RedisError

from cloister_gateway.identity.guard import log_caller
from cloister_gateway.sockets.session import Session, Shutdown
from cloister_gateway.storage.client import REDIS_DOWN
from cloister_gateway.wire.faults import fault_of

__all__ = ["router"]

log = get_logger(__name__)
_OPEN = Gauge("cloister_sockets", "Open WebSockets.")
_CLOSED = MetricCounter("cloister_sockets_closed_total", "WebSockets that the gateway closed, by close code.", ["code"])

_CLOSE_SECONDS = 30.0
"""A client that does not read does not take the close frame either. One that reads again within this learns why."""

router = APIRouter()


@router.websocket("/v1/responses")
async def responses(socket: WebSocket) -> None:
    """OpenAI's WebSocket mode of the Responses API."""
    context = socket.app.state.context
    settings = context.settings.responses
    open_by_tenant: Counter[str] = context.open_sockets
    try:
        principal = await context.authenticator.authenticate(socket.headers)
        log_caller(principal)
        principal.require("responses")
        if open_by_tenant[principal.tenant] >= settings.sockets_per_tenant:
            raise TooManyRequests("Your project has its limit of open connections. Close some first.", retry_after=10)
    except CloisterError as error:
        await socket.send_denial_response(error_response(error))
        return
    except (*REDIS_DOWN, RedisError) as error:
        await socket.send_denial_response(error_response(fault_of(error)))
        return
    session = Session(
        socket,
        principal,
        context.core,
        waiting=context.waiting_bytes,
        most_values=context.settings.bodies.json_values,
        send_seconds=settings.send_seconds,
    )
    open_by_tenant[principal.tenant] += 1
    _OPEN.inc()
    try:
        try:
            async with context.authenticator.while_valid(principal):
                await socket.accept()
                log.info("socket_opened")
                end = await session.run()
        except Unauthenticated as error:
            end = Shutdown(type(error).close_code, "The credential of this connection has ended.")
        if end is not None:
            log.info("socket_closed", code=end.code)
            _CLOSED.labels(end.code).inc()
            with suppress(TimeoutError, *SOCKET_GONE):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await socket.close(end.code, end.reason)
    finally:
        open_by_tenant[principal.tenant] -= 1
        _OPEN.dec()
