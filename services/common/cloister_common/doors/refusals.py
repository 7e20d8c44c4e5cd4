"""What a client is told whose request passes a limit before it is whole."""

from cloister_common.errors import HeadTooLarge, InvalidRequest, RequestTimeout
from cloister_common.settings import ConnectionLimits

__all__ = ["body_is_slow", "chunks_are_small", "head_is_large", "head_is_late"]


def head_is_large(limits: ConnectionLimits) -> HeadTooLarge:
    """Of bytes or of headers."""
    return HeadTooLarge(
        f"The request's URL and headers may have {limits.head_bytes} bytes in {limits.headers} headers. Send less."
    )


def head_is_late(limits: ConnectionLimits) -> RequestTimeout:
    """It has begun, and does not end."""
    return RequestTimeout(f"The request's headers did not end within {limits.head_seconds:g} s.")


def body_is_slow(limits: ConnectionLimits) -> RequestTimeout:
    """It comes too slowly, or for too long."""
    return RequestTimeout(
        f"The request body must come at {limits.body_bytes_per_second} bytes a second or more, and within "
        f"{limits.body_seconds:g} s."
    )


def chunks_are_small() -> InvalidRequest:
    """More of them is framing than content."""
    return InvalidRequest("The body comes in chunks of a few bytes. Send larger ones.", code="invalid_http")
