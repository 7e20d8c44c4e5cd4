"""The opening handshake of a WebSocket (RFC 6455, section 4), for a request that the HTTP parser has read already."""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote

import httptools

from cloister_common.errors import CloisterError, HeadTooLarge, InvalidRequest

__all__ = ["REFUSAL_HEADERS", "accepted", "check_handshake", "socket_scope"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What proves that the server read the request as a WebSocket's, RFC 6455 section 1.3."""

_LONGEST_LINE = 8192
"""Bytes of the URL and of each header. What follows is held for as long as the socket is open."""

_VERSION = b"13"
REFUSAL_HEADERS = {"sec-websocket-version": _VERSION.decode()}
"""What RFC 6455, section 4.2.2, has whoever asked for another version be told."""

_KEY_BYTES = 16

Headers = Sequence[tuple[bytes, bytes]]


def check_handshake(method: str, http_version: str, url: bytes, headers: Headers) -> tuple[bytes, CloisterError | None]:
    """What ``sec-websocket-accept`` answers; or why this opens no WebSocket.

    Args:
        method: Of the request.
        http_version: As in a scope: ``1.1``.
        url: As it was sent.
        headers: Their names in lower case.
    """
    keys = [value for name, value in headers if name == b"sec-websocket-key"]
    versions = [value for name, value in headers if name == b"sec-websocket-version"]
    if len(url) > _LONGEST_LINE or any(len(name) + len(value) > _LONGEST_LINE for name, value in headers):
        return b"", HeadTooLarge(
            f"The URL and each header of a WebSocket's request may have {_LONGEST_LINE} bytes. Send less."
        )
    if method != "GET" or http_version != "1.1":
        return b"", _invalid("A WebSocket is opened with a GET of HTTP/1.1.")
    if not _has_path(url):
        return b"", _invalid("The URL of a WebSocket's request is a path, and maybe a query.")
    if versions != [_VERSION]:
        return b"", _invalid("A WebSocket's request has the header 'sec-websocket-version: 13', once.")
    if len(keys) != 1 or not _is_key(keys[0]):
        return b"", _invalid("A WebSocket's request has one 'sec-websocket-key', of 16 bytes in base64.")
    return base64.b64encode(hashlib.sha1(keys[0] + _GUID, usedforsecurity=False).digest()), None


def socket_scope(request: dict[str, Any], url: bytes, root_path: str) -> dict[str, Any]:
    """The ASGI scope of a socket that the HTTP request with the scope ``request`` asks for."""
    parsed = httptools.parse_url(url)
    headers = request["headers"]
    named = [value for name, value in headers if name == b"sec-websocket-protocol"]
    return {
        "type": "websocket",
        "asgi": {"version": request["asgi"]["version"], "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss" if request["scheme"] == "https" else "ws",
        "server": request["server"],
        "client": request["client"],
        "root_path": root_path,
        "path": root_path + unquote(parsed.path.decode("ascii")),
        "raw_path": root_path.encode("ascii") + parsed.path,
        "query_string": parsed.query or b"",
        "headers": headers,
        "subprotocols": [part.strip().decode("latin-1") for value in named for part in value.split(b",")],
        "state": request["state"],
        "extensions": {"websocket.http.response": {}},
    }


def accepted(accept: bytes, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The answer that opens the socket."""
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"upgrade: websocket",
        b"connection: Upgrade",
        b"sec-websocket-accept: " + accept,
    ]
    if subprotocol:
        lines.append(b"sec-websocket-protocol: " + subprotocol.encode("latin-1"))
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", b""])


def _has_path(url: bytes) -> bool:
    """Whether `socket_scope` can read ``url``: the parser of requests lets more pass than that of URLs."""
    try:
        return httptools.parse_url(url).path is not None
    except httptools.HttpParserInvalidURLError:
        return False


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_http")
