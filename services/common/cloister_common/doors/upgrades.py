"""Requests that ask to go on in a protocol that is not spoken here."""

__all__ = ["without_upgrade"]

_OF_UPGRADES = frozenset({b"upgrade", b"http2-settings"})


def without_upgrade(method: bytes, url: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The head of a request that asked to go on in another protocol, as if it had not (RFC 9110, 7.8).

    Java's own client asks for HTTP/2 with every request. The parser reads none that asks for an upgrade to its end,
    since what comes then is in a protocol which it does not know: so it is given this one.
    """
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    for name, value in headers:
        if name == b"connection":
            options = [option.strip() for option in value.split(b",")]
            value = b", ".join(option for option in options if option.lower() not in _OF_UPGRADES)
        if name not in _OF_UPGRADES and (value or name != b"connection"):
            lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b"", b""])
