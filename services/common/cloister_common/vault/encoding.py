"""An injective encoding of what a record is.

Joining fields with a separator lets two different field lists give the same bytes; a count and a length before every
field does not. The same encoding feeds record contexts, key derivation labels and HMAC names.
"""

import struct

__all__ = ["encode_context"]

Part = str | int | bytes
_COUNT = struct.Struct(">H").pack
_HEAD = struct.Struct(">cI").pack


def encode_context(*parts: Part) -> bytes:
    """Encodes ``parts`` so that no two different lists, in values or in types, give the same bytes.

    Layout: count (u16 BE), then for each part its type (1 byte), length (u32 BE) and bytes. Integers are written in
    decimal, text in UTF-8.
    """
    pieces = [_COUNT(len(parts))]
    for part in parts:
        if isinstance(part, str):
            kind, raw = b"s", part.encode()
        elif isinstance(part, bytes):
            kind, raw = b"b", part
        else:
            kind, raw = b"i", b"%d" % part
        pieces += (_HEAD(kind, len(raw)), raw)
    return b"".join(pieces)
