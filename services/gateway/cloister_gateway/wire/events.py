"""The events of a response as they go out: raw JSON bytes, looked into as little as possible."""

import orjson
from cloister_common.errors import CloisterError

__all__ = ["error_event", "event_name", "with_stream_id"]

_PREFIX = b'{"type":"'


def event_name(event: bytes) -> bytes:
    """The ``type`` of an event: it is always the first key, see `Transcript.emit`."""
    return event[len(_PREFIX) : event.index(b'"', len(_PREFIX))]


def with_stream_id(event: bytes, stream_id: str) -> bytes:
    """The event with the WebSocket lane it belongs to as a last key."""
    return event[:-1] + b',"stream_id":' + orjson.dumps(stream_id) + b"}"


def error_event(error: CloisterError, number: int) -> bytes:
    """OpenAI's ``error`` event: the stream ends here, and the run may go on.

    It stands in no run's stream. So it takes the number before ``number``, the next that is due: who resumes after it
    misses nothing.
    """
    event = {
        "type": "error",
        "sequence_number": number - 1,
        "code": error.error_code,
        "message": error.message,
        "param": error.param,
    }
    return orjson.dumps(event)
