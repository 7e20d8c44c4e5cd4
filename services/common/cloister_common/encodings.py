"""``Content-Encoding`` of a request, as its headers say it: nothing of the body is looked at here."""

from collections.abc import Iterable, Sequence

from cloister_common.errors import UnsupportedMediaType

__all__ = ["check_encoding", "codings_of"]

Headers = Sequence[tuple[bytes, bytes]]

_SAME = {"x-gzip": "gzip"}
"""RFC 9110, 8.4.1.3."""


def codings_of(headers: Headers) -> list[str]:
    """What the body was compressed with, in the order in which that was done; nothing where there is no body."""
    named = [
        coding.strip().lower().decode("latin-1")
        for name, value in headers
        if name == b"content-encoding"
        for coding in value.split(b",")
    ]
    has_body = any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ")) for name, value in headers
    )
    return [_SAME.get(coding, coding) for coding in named if coding not in {"", "identity"}] if has_body else []


def check_encoding(headers: Headers, *, known: Iterable[str] = (), most: int = 0) -> None:
    """Lets a body pass that can be read; called before any of it is.

    Args:
        headers: The request's.
        known: The codings that are read; by default none.
        most: How many of them, one around the other.

    Raises:
        UnsupportedMediaType: It has another coding, or more of them.
    """
    codings = codings_of(headers)
    if len(codings) <= most and set(codings) <= set(known):
        return
    taken = ", ".join(known)
    if not taken:
        message = "Compressed bodies are not read here. Send the body as it is, without Content-Encoding."
    elif len(codings) > most and set(codings) <= set(known):
        message = f"The body is compressed {len(codings)} times. Compress it at most {most} times."
    else:
        message = f"This Content-Encoding is not read. Take one of {taken}, or send the body as it is."
    raise UnsupportedMediaType(message, param="Content-Encoding")
