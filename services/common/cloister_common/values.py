"""How many values a JSON body has, counted in its bytes before anything is made of them.

What a body costs is not told by its bytes: two million bytes are a long text or a million numbers, and a value of a few
bytes is up to thirty times as large as an object of Python's, and takes a microsecond or more to be checked.
"""

import asyncio

from cloister_common.errors import PayloadTooLarge

__all__ = ["MOST_VALUES", "check_values"]

MOST_VALUES = 50_000
"""JSON values of one body unless a setting says otherwise.

The largest honest body is a batch of 2,000 files with 16 attributes and their chunking each: 48,000 values. A chat of
8,000 messages with parts has as many, the inputs of an embedding request 2,048, the largest JSON schema that OpenAI
takes about 30,000. Reading and checking as many takes some 30 ms and 12 MB.
"""

_LEAST_BYTES = 2
"""A value and the comma or bracket before it. So most bodies need not be looked at."""

_DEEPEST_LEVELS = 1024
"""What orjson reads; the standard library reads less."""

_PIECE_BYTES = 64 * 1024
"""Bytes counted before the event loop gets its turn: about a millisecond where every byte counts."""


async def check_values(raw: bytes, most: int) -> None:
    """Raises `PayloadTooLarge` if ``raw``, as JSON, has more than ``most`` values; an empty list or map is two.

    Takes linear time and gives way to other requests meanwhile. Bodies that are no JSON may pass.
    """
    if len(raw) > most * _LEAST_BYTES and await _more_separators(raw, most) and await _more_values(raw, most):
        raise PayloadTooLarge(
            f"The body has more than {most} JSON values. Send fewer, in several requests.", code="too_many_values"
        )


async def _more_separators(raw: bytes, most: int) -> bool:
    """Whether there may be more values: commas in texts count here, which makes it fast."""
    count = 1
    for start in range(0, len(raw), _PIECE_BYTES):
        count += _separators(raw, start, start + _PIECE_BYTES)
        if count > most:
            return True
        await asyncio.sleep(0)
    return False


async def _more_values(raw: bytes, most: int) -> bool:
    """Whether there are more values: one for each comma and each opening bracket outside of strings, and the first.

    What is nested too deeply is left to the parser, which refuses it as no JSON when it gets there.
    """
    count, depth = 1, 0
    start, inside = 0, False
    while start < len(raw):
        piece = raw[start : start + _PIECE_BYTES]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            # The last backslash escapes what comes next.
            piece = raw[start : start + _PIECE_BYTES + 1]
        start += len(piece)
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b" ".join(parts[inside::2])
        inside ^= len(parts) % 2 == 0
        count += _separators(outside, 0, len(outside))
        depth += outside.count(b"[") + outside.count(b"{") - outside.count(b"]") - outside.count(b"}")
        if depth > _DEEPEST_LEVELS:
            return False
        if count > most:
            return True
        await asyncio.sleep(0)
    return False


def _separators(raw: bytes, start: int, end: int) -> int:
    return raw.count(b",", start, end) + raw.count(b"[", start, end) + raw.count(b"{", start, end)
