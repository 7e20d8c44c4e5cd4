"""File contents: sealed in segments while they stream in, opened by range on the way out.

One object holds the segments one after another; each but the last is `SEGMENT_BYTES` plus a fixed overhead, so a range
of the file is a range of the object. Contents are never whole in memory.
"""

import hashlib
from collections.abc import AsyncIterator
from typing import NamedTuple

from cloister_common.errors import PayloadTooLarge
from cloister_common.vault import (
    RECORD_OVERHEAD_BYTES,
    SEGMENT_BYTES,
    VaultError,
    open_segment,
    seal_segment,
)

from cloister_retriever.storage.objects import Objects

__all__ = ["ContentFacts", "SealedContent", "plain_size", "sealed_size"]

_SEALED_SEGMENT_BYTES = SEGMENT_BYTES + RECORD_OVERHEAD_BYTES
_SEGMENTS_A_READ = 4
"""1 MiB a read: enough that an S3 round trip is small beside it."""


class ContentFacts(NamedTuple):
    """What was written: plaintext bytes and their SHA-256 (hex)."""

    size: int
    sha256: str


def sealed_size(size: int) -> int:
    """How many bytes a content of ``size`` bytes has where it is stored."""
    segments = max(1, -(-size // SEGMENT_BYTES))
    return size + segments * RECORD_OVERHEAD_BYTES


def plain_size(stored: int) -> int:
    """How many bytes a content has that has ``stored`` where it is stored: `sealed_size` backwards."""
    return stored - max(1, -(-stored // _SEALED_SEGMENT_BYTES)) * RECORD_OVERHEAD_BYTES


class SealedContent:
    """Writes and reads sealed contents."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def write(
        self, path: str, chunks: AsyncIterator[bytes], *, key: bytes, context: bytes, max_bytes: int
    ) -> ContentFacts:
        """Seals ``chunks`` into ``path``. Nothing is there if this raises.

        Raises:
            PayloadTooLarge: More than ``max_bytes`` came.
        """
        digest = hashlib.sha256()
        size = 0

        async def sealed() -> AsyncIterator[bytes]:
            nonlocal size
            index = 0
            waiting = bytearray()
            async for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise PayloadTooLarge(
                        f"The file is over the limit of {max_bytes} bytes. Send a smaller one.", param="file"
                    )
                digest.update(chunk)
                waiting += chunk
                # Strictly more than a segment: the last one must be known as the last when it is sealed.
                while len(waiting) > SEGMENT_BYTES:
                    segment = bytes(waiting[:SEGMENT_BYTES])
                    del waiting[:SEGMENT_BYTES]
                    yield seal_segment(key, segment, context, index=index, last=False)
                    index += 1
            yield seal_segment(key, bytes(waiting), context, index=index, last=True)

        await self._objects.put_stream(path, sealed())
        return ContentFacts(size, digest.hexdigest())

    async def read(
        self, path: str, *, key: bytes, context: bytes, size: int, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[bytes]:
        """The plaintext bytes ``start`` to ``stop`` (exclusive) of a content of ``size`` bytes.

        Raises:
            VaultError: The object is gone, cut or altered; also in the middle of the stream.
        """
        stop = size if stop is None else min(stop, size)
        last = max(0, (size - 1) // SEGMENT_BYTES)
        index = min(start // SEGMENT_BYTES, last)
        final = min(max(stop - 1, 0) // SEGMENT_BYTES, last)
        while index <= final:
            count = min(_SEGMENTS_A_READ, final - index + 1)
            raw = await self._objects.get_range(path, index * _SEALED_SEGMENT_BYTES, count * _SEALED_SEGMENT_BYTES)
            if raw is None:
                raise VaultError
            for number in range(count):
                record = raw[number * _SEALED_SEGMENT_BYTES : (number + 1) * _SEALED_SEGMENT_BYTES]
                plain = open_segment(key, record, context, index=index, last=index == last)
                base = index * SEGMENT_BYTES
                yield plain[max(0, start - base) : max(0, stop - base)]
                index += 1
