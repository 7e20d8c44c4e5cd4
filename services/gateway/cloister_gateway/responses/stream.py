"""A response as server-sent events: made, then followed to its end."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing

from cloister_common.app import error_response
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cloister_gateway.admission.middleware import WAITED_SINCE
from cloister_gateway.responses.service import ResponseService
from cloister_gateway.settings import ResponsesSettings
from cloister_gateway.storage import KeyedObject
from cloister_gateway.wire.events import error_event, event_name
from cloister_gateway.wire.faults import fault_of
from cloister_gateway.wire.readers import STREAM_HEADERS, Reader, TimedStream

__all__ = ["CreatedStream", "stream_of"]


async def _frames(service: ResponseService, keyed: KeyedObject, after: int) -> AsyncGenerator[bytes, None]:
    number = after + 1
    try:
        async with aclosing(service.events(keyed, after=after)) as batches:
            async for events in batches:
                number += len(events)
                yield b"".join(b"event: %b\ndata: %b\n\n" % (event_name(event), event) for event in events)
    except Exception as error:  # noqa: BLE001 - whatever it is, a stream that only ends would look whole
        yield _error_frame(error, keyed.id, number)


def _error_frame(error: Exception, response_id: str | None, number: int) -> bytes:
    return b"event: error\ndata: %b\n\n" % error_event(fault_of(error, response_id=response_id), number)


def stream_of(service: ResponseService, streaming: ResponsesSettings, keyed: KeyedObject, *, after: int) -> Response:
    """The events of a response behind the number ``after``, from the past into the present."""
    return TimedStream(
        _frames(service, keyed, after),
        send_seconds=streaming.send_seconds,
        keep_alive_seconds=streaming.keep_alive_seconds,
        headers={name.decode(): value.decode() for name, value in STREAM_HEADERS},
    )


class CreatedStream(Response):
    """The events of a response that is yet to be made, which may take its time: another turn of the conversation goes
    on. What is wrong with it is an HTTP error, or, once a comment had to be sent, an event.

    Args:
        make: Makes it. Done whole, even if the reader leaves meanwhile.
        service: Gives its events.
        streaming: How long a message may take to go out, and how long a silence may be.
        told: Further headers of the answer, which ``make`` may add.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[KeyedObject]],
        service: ResponseService,
        streaming: ResponsesSettings,
        told: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._told = {} if told is None else told
        self._make = make
        self._service = service
        self._streaming = streaming

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request."""
        seconds, silent = self._streaming.send_seconds, self._streaming.keep_alive_seconds
        since = scope["state"].get(WAITED_SINCE)
        async with Reader(receive, send, send_seconds=seconds, keep_alive_seconds=silent, since=since) as reader:
            try:
                async with reader.held():
                    keyed = await self._make()
            except Exception as error:  # noqa: BLE001 - as the application's handlers, which stand around the route
                if not reader.begun:
                    await error_response(fault_of(error))(scope, receive, reader.send)
                    return
                await reader.send({"type": "http.response.body", "body": _error_frame(error, None, 0)})
                return
            told = [(name.encode(), value.encode()) for name, value in self._told.items()]
            await reader.send({"type": "http.response.start", "status": 200, "headers": [*STREAM_HEADERS, *told]})
            async with aclosing(_frames(self._service, keyed, -1)) as frames:
                async for frame in frames:
                    await reader.send({"type": "http.response.body", "body": frame, "more_body": True})
            await reader.send({"type": "http.response.body", "body": b"", "more_body": False})
