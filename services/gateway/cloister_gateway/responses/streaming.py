"""The events of a response as they go out: raw JSON bytes, looked into as little as possible."""

import orjson
from cloister_common.errors import CloisterError

__all__ = ["error_event", "event_name", "is_terminal", "with_stream_id"]

_TERMINAL = {b"response.completed", b"response.incomplete", b"response.failed"}
_PREFIX = b'{"type":"'


def event_name(event: bytes) -> bytes:
    """The ``type`` of an event: it is always the first key, see `Assembler.emit`."""
    return event[len(_PREFIX) : event.index(b'"', len(_PREFIX))]


def is_terminal(event: bytes) -> bool:
    """Whether the event ends its response."""
    return event_name(event) in _TERMINAL


def with_stream_id(event: bytes, stream_id: str) -> bytes:
    """The event with the WebSocket lane it belongs to as a last key."""
    return event[:-1] + b',"stream_id":' + orjson.dumps(stream_id) + b"}"


def error_event(error: CloisterError, number: int) -> bytes:
    """OpenAI's ``error`` event: the stream ends here, and the run may go on."""
    event = {
        "type": "error",
        "sequence_number": number,
        "code": error.error_code,
        "message": error.message,
        "param": error.param,
    }
    return orjson.dumps(event)
