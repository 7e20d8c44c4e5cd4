"""Large files are sealed in segments, so that they stream and a range can be read, and truncation still shows.

Each segment is a sealed record whose context has its index and whether it is the last: a file that was cut, or whose
segments were swapped, repeated or taken from another file, does not open.
"""

from cloister_common.vault.encoding import encode_context
from cloister_common.vault.record import open_record, seal

__all__ = ["SEGMENT_BYTES", "open_segment", "seal_segment"]

SEGMENT_BYTES = 256 * 1024
"""Plaintext bytes in every segment but the last: large enough that the record overhead (89 bytes) is nothing."""


def seal_segment(key: bytes, plaintext: bytes, context: bytes, *, index: int, last: bool) -> bytes:
    """Seals one segment (at most `SEGMENT_BYTES`) of the file that ``context`` names."""
    return seal(key, plaintext, encode_context("segment", context, index, int(last)))


def open_segment(key: bytes, record: bytes, context: bytes, *, index: int, last: bool) -> bytes:
    """Opens one segment. Raises `VaultError` unless it is the ``index``-th, and the last if ``last``, of the file."""
    return open_record(key, record, encode_context("segment", context, index, int(last)))
