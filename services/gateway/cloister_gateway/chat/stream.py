"""A chat completion as an ASGI response: bytes from the pod to the caller with as little work as a token allows.

While it waits or sends it also listens: a caller that goes away ends the generation in the pod at once, also before
the first token. An error before the first byte is an HTTP error; later it is an event in OpenAI's shape.
"""

from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import anyio
import orjson
from cloister_common.app import error_response
from cloister_common.disconnect import disconnected
from cloister_common.errors import CloisterError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cloister_gateway.chat.tally import read_answer, read_block
from cloister_gateway.usage import Metered
from cloister_gateway.wire.keep_alive import STREAM_HEADERS
from cloister_gateway.wire.readers import ReaderTooSlowError, in_time

__all__ = ["CompletionResponse", "EventStreamResponse"]


class _WhileConnected(Response):
    """A response whose work ends when its caller goes away, or stops reading."""

    def __init__(self, send_seconds: float) -> None:
        super().__init__()
        self._send_seconds = send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
                await self._respond(scope, receive, in_time(send, self._send_seconds))
                group.cancel_scope.cancel()
        except* ReaderTooSlowError:
            pass  # Its connection is closed.

    @abstractmethod
    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the whole response."""


class EventStreamResponse(_WhileConnected):
    """Streams blocks of server-sent events.

    Args:
        events: Whole events, ``data: [DONE]`` included. Closed at the end, whatever the end is.
        metered: Around them.
        send_seconds: The longest one block may take to go out.
    """

    def __init__(self, events: AsyncGenerator[bytes, None], metered: Metered, *, send_seconds: float) -> None:
        super().__init__(send_seconds)
        self._events = events
        self._metered = metered

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        try:
            async with aclosing(self._events) as events, self._metered as metered:
                async for block in events:
                    read_block(metered.used, block)
                    if not started:
                        await send({"type": "http.response.start", "status": 200, "headers": list(STREAM_HEADERS)})
                        started = True
                    await send({"type": "http.response.body", "body": block, "more_body": True})
        except CloisterError as error:
            if not started:
                await error_response(error)(scope, receive, send)
                return
            last = b"data: " + orjson.dumps(error.body()) + b"\n\ndata: [DONE]\n\n"
            await send({"type": "http.response.body", "body": last, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class CompletionResponse(_WhileConnected):
    """A whole JSON answer that takes its time.

    Args:
        work: Gives the JSON bytes.
        metered: Around it.
        send_seconds: The longest they may take to go out.
    """

    def __init__(self, work: Callable[[], Awaitable[bytes]], metered: Metered, *, send_seconds: float) -> None:
        super().__init__(send_seconds)
        self._work = work
        self._metered = metered

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._metered as metered:
                answer = await self._work()
                read_answer(metered.used, answer)
            response = Response(answer, media_type="application/json")
        except CloisterError as error:
            response = error_response(error)
        await response(scope, receive, send)


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    await disconnected(receive)
    scope.cancel()
