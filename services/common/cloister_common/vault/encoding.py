"""An injective encoding of what a record is.

Joining fields with a separator lets two different field lists give the same bytes; a count and a length before every
field does not. The same encoding feeds record contexts, key derivation labels and HMAC names.
"""

import struct

__all__ = ["encode_context"]

Part = str | int | bytes


def encode_context(*parts: Part) -> bytes:
    """Encodes ``parts`` so that no two different lists, in values or in types, give the same bytes.

    Layout: count (u16 BE), then for each part its type (1 byte), length (u32 BE) and bytes. Integers are written in
    decimal, text in UTF-8.
    """
    pieces = [struct.pack(">H", len(parts))]
    for part in parts:
        if isinstance(part, bytes):
            kind, raw = b"b", part
        elif isinstance(part, str):
            kind, raw = b"s", part.encode()
        else:
            kind, raw = b"i", str(int(part)).encode()
        pieces.append(kind + struct.pack(">I", len(raw)) + raw)
    return b"".join(pieces)
