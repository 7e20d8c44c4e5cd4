"""What was signed with S/MIME, out of the wrapping that only mail programs take off (RFC 5652, 5.1). No check is made:
who reads the passages trusts whoever uploaded the file."""

__all__ = ["signed_content"]

_SIGNED_DATA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
_DATA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
_OCTETS, _CONSTRUCTED, _DEEPEST = 0x04, 0x20, 8


def signed_content(content: bytes) -> bytes | None:
    """The mail within, or None where this is nothing that was signed: it is encrypted, or damaged."""
    signed = content.find(_SIGNED_DATA, 0, 64)
    at = content.find(_DATA, signed, signed + 1024) if signed >= 0 else -1
    if at < 0:
        return None
    try:
        _, inner, _ = _element(content, at + len(_DATA))
        octets, _ = _octets(content, inner, _DEEPEST)
    except (IndexError, ValueError):
        return None
    return octets or None


def _element(content: bytes, at: int) -> tuple[int, int, int | None]:
    """Tag of what begins at ``at`` (X.690, 8.1), where its contents begin, and how many bytes they have, if it says."""
    tag, first = content[at], content[at + 1]
    if first == 0x80:
        return tag, at + 2, None
    if first < 0x80:
        return tag, at + 2, first
    count = first & 0x7F
    return tag, at + 2 + count, int.from_bytes(content[at + 2 : at + 2 + count], "big")


def _octets(content: bytes, at: int, deepest: int) -> tuple[bytes, int]:
    """The bytes of a string that is whole, or in parts that are strings themselves, and where it ends."""
    tag, begin, size = _element(content, at)
    if tag & ~_CONSTRUCTED != _OCTETS or deepest == 0:
        raise ValueError("no string of octets")
    if not tag & _CONSTRUCTED:
        if size is None:
            raise ValueError("a string without a length")
        return content[begin : begin + size], begin + size
    parts: list[bytes] = []
    end = len(content) if size is None else begin + size
    while begin < end and content[begin : begin + 2] != b"\0\0":
        part, begin = _octets(content, begin, deepest - 1)
        parts.append(part)
    return b"".join(parts), begin + (2 if size is None else 0)
