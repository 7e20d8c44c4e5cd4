"""A chat completion as an ASGI response: bytes from the pod to the caller with as little work as a token allows.

While it waits or sends it also listens: a caller that goes away ends the generation in the pod at once, also before
the first token. An error before the first byte is an HTTP error; later it is an event in OpenAI's shape.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import orjson
from cloister_common.app import error_response
from cloister_common.bodies import aside
from cloister_common.errors import CloisterError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cloister_gateway.admission.middleware import WAITED_SINCE
from cloister_gateway.chat.tally import read_answer, read_block
from cloister_gateway.settings import ResponsesSettings
from cloister_gateway.usage import Metered
from cloister_gateway.wire.readers import STREAM_HEADERS, Reader

__all__ = ["CompletionResponse", "EventStreamResponse"]


class EventStreamResponse(Response):
    """Streams blocks of server-sent events.

    Args:
        events: Whole events, ``data: [DONE]`` included. Closed at the end, whatever the end is.
        shaped: Makes a block look like OpenAI's.
        metered: Around them.
        settings: How long a block may take to go out, and how long a silence may be.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        shaped: Callable[[bytes], bytes],
        metered: Metered,
        settings: ResponsesSettings,
    ) -> None:
        super().__init__()
        self._events = events
        self._shaped = shaped
        self._metered = metered
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings, shaped = self._settings, self._shaped
        seconds, silent = settings.send_seconds, settings.keep_alive_seconds
        since = scope["state"].get(WAITED_SINCE)
        async with Reader(receive, send, send_seconds=seconds, keep_alive_seconds=silent, since=since) as reader:
            started = False
            try:
                async with aclosing(self._events) as events, self._metered as metered:
                    async for block in events:
                        read_block(metered.used, block)
                        if not started:
                            metered.used.served.first_at = time.monotonic()
                            headers = [*STREAM_HEADERS, *_told(metered)]
                            await reader.send({"type": "http.response.start", "status": 200, "headers": headers})
                            started = True
                        if body := shaped(block):
                            await reader.send({"type": "http.response.body", "body": body, "more_body": True})
            except CloisterError as error:
                if not started:
                    await error_response(error)(scope, receive, reader.send)
                    return
                last = b"data: " + orjson.dumps(error.body()) + b"\n\ndata: [DONE]\n\n"
                await reader.send({"type": "http.response.body", "body": last, "more_body": True})
            await reader.send({"type": "http.response.body", "body": b"", "more_body": False})


class CompletionResponse(Response):
    """A whole JSON answer that takes its time.

    Args:
        work: Gives the JSON bytes of the pod.
        shaped: Makes them look like OpenAI's.
        metered: Around it.
        settings: How long they may take to go out.
    """

    def __init__(
        self,
        work: Callable[[], Awaitable[bytes]],
        shaped: Callable[[bytes], bytes],
        metered: Metered,
        settings: ResponsesSettings,
    ) -> None:
        super().__init__()
        self._work = work
        self._shaped = shaped
        self._metered = metered
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with Reader(receive, send, send_seconds=self._settings.send_seconds) as reader:
            try:
                async with self._metered as metered:
                    metered.used.silent = True
                    answer = await self._work()
                    read_answer(metered.used, answer)
                answer = await aside(len(answer), self._shaped, answer)
                response = Response(answer, media_type="application/json", headers=dict(metered.headers))
            except CloisterError as error:
                response = error_response(error)
            await response(scope, receive, reader.send)


def _told(metered: Metered) -> list[tuple[bytes, bytes]]:
    """The headers that say how the caller stands."""
    return [(name.encode(), value.encode()) for name, value in metered.headers.items()]
