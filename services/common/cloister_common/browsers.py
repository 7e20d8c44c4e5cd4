"""What pages in browsers may do here: those of listed origins may call and read the answers, no others (CORS).

Nothing is ever allowed with credentials of the browser's own (cookies, certificates): a page sends its key in a header,
so a browser that is lured to another page has nothing to give away. Source: the Fetch standard, section 3.3 ("HTTP
extensions", CORS protocol), and RFC 6454 for the form of an origin.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema
from starlette.types import Scope

__all__ = ["Cors", "Origin", "Origins", "sent_origin"]

_MAX_AGE = b"7200"
"""Seconds for which a browser remembers what it was allowed: as long as Chromium does at most."""

_METHODS = b"GET, HEAD, POST, DELETE"

_EXPOSED = ", ".join(
    (
        "x-request-id",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        *(
            f"x-ratelimit-{which}-{what}"
            for what in ("requests", "tokens")
            for which in ("limit", "remaining", "reset")
        ),
        *(
            f"openai-{what}"
            for what in ("organization", "project", "model", "version", "processing-ms", "poll-after-ms")
        ),
        "content-disposition",
        "www-authenticate",
    )
).encode()
"""What a page may read beside the headers that every page may (`content-type` and its like): what OpenAI's libraries
and those who write limits, retries and reports with them look at. By name, as a wildcard would be taken for less by
libraries that look into the answer."""

_TOKENS = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ, ")

Headers = Sequence[tuple[bytes, bytes]]


_ORIGIN = r"^[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?$"
_USUAL_PORTS = {"http": "80", "https": "443"}


def _as_browsers_write_it(origin: str) -> str:
    """Takes an origin only in the form in which browsers send it: any other would never match."""
    if re.fullmatch(_ORIGIN, origin) is None:
        raise ValueError(
            "an origin is written as browsers send it: scheme://host or scheme://host:port in small letters, a host of "
            "other scripts as xn--…, without a path or a slash at the end; no wildcard, and not null"
        )
    scheme, _, place = origin.partition("://")
    port = place.rpartition(":")[2] if not place.endswith("]") and ":" in place else ""
    if port and port == _USUAL_PORTS.get(scheme):
        raise ValueError(f"browsers leave out the usual port of {scheme}: write it without :{port}")
    if scheme == "file" or int(port or 1) > 65535:
        raise ValueError("no page has such an origin: those of files are null, and ports go up to 65535")
    return origin


Origin = Annotated[str, AfterValidator(_as_browsers_write_it), WithJsonSchema({"type": "string", "pattern": _ORIGIN})]
"""An origin (RFC 6454): scheme, host, and the port where it is not the scheme's usual one."""


def sent_origin(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The origin of the page that a request comes from; None where it comes from no browser.

    Two headers make one origin that nobody lists.
    """
    sent = [value for name, value in headers if name == b"origin"]
    return b", ".join(sent).decode("latin-1") if sent else None


class Origins:
    """The origins whose pages may call.

    Args:
        listed: As browsers write them: ``https://chat.example.org``.
    """

    __slots__ = ("_listed",)

    def __init__(self, listed: Collection[str] = ()) -> None:
        self._listed = frozenset(listed)

    def __bool__(self) -> bool:
        return bool(self._listed)

    def __contains__(self, origin: str) -> bool:
        return origin in self._listed


class Cors:
    """The headers by which a browser learns what a page may do.

    Args:
        origins: Whose pages may do it. Without any, every answer is as if there were no browsers.
    """

    def __init__(self, origins: Origins) -> None:
        self._origins = origins

    def headers(self, scope: Scope) -> Headers:
        """What the answer to a request carries besides its own, whatever the answer is."""
        if not self._origins:
            return ()
        origin = sent_origin(scope["headers"])
        if origin is None:
            return ()
        if origin not in self._origins:
            # So that no cache shows a listed page what an unlisted one was answered.
            return ((b"vary", b"origin"),)
        return (
            (b"vary", b"origin"),
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", _EXPOSED),
        )

    def preflight(self, scope: Scope) -> Headers | None:
        """The headers that answer a browser's question before a request, beside those of `headers`.

        None where it is no such question, or a page asks that may not: that is answered as any request without a key.
        """
        if scope["method"] != "OPTIONS" or not self._origins:
            return None
        asked = dict(scope["headers"])
        if b"access-control-request-method" not in asked or (sent_origin(scope["headers"]) or "") not in self._origins:
            return None
        allowed = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", _MAX_AGE)]
        # Whatever headers it asks for. The origin is one that the operator trusts, and what a browser adds by itself
        # stays out: so this keeps nobody from anything, and every library sends headers of its own.
        names = asked.get(b"access-control-request-headers", b"")
        if names and _TOKENS.issuperset(names):
            allowed.append((b"access-control-allow-headers", names))
        # A public page that calls into a private network: listing it says that it may.
        if asked.get(b"access-control-request-private-network") == b"true":
            allowed.append((b"access-control-allow-private-network", b"true"))
        return allowed
