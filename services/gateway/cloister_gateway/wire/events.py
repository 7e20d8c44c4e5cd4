"""The events of a response as they go out: raw JSON bytes, looked into as little as possible."""

from collections.abc import Sequence

import orjson
from cloister_common.errors import CloisterError

__all__ = ["error_event", "event_name", "in_lane"]

_PREFIX = b'{"type":"'


def event_name(event: bytes) -> bytes:
    """The ``type`` of an event: it is always the first key, see `Transcript.emit`."""
    return event[len(_PREFIX) : event.index(b'"', len(_PREFIX))]


def in_lane(events: Sequence[bytes], stream_id: str | None) -> Sequence[bytes]:
    """The events with the WebSocket lane they belong to, if it has a name, as a last key."""
    if stream_id is None:
        return events
    last = b',"stream_id":' + orjson.dumps(stream_id) + b"}"
    return [event[:-1] + last for event in events]


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
