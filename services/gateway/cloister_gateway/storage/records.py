"""Sealed JSON fields of the Redis hash that stands for one object (a conversation, a response)."""

from typing import Any

import orjson
from cloister_common.vault import DataKey, VaultError, encode_context, open_record, seal

__all__ = ["RecordGoneError", "open_field", "seal_field"]


class RecordGoneError(Exception):
    """The object's record was destroyed; nothing was written."""


def seal_field(key: DataKey, kind: str, object_id: str, field: str, value: Any) -> bytes:
    """Seals ``value`` (anything JSON) as ``field`` of the object."""
    return seal(key.subkey("record"), orjson.dumps(value), _context(key, kind, object_id, field))


def open_field(key: DataKey, kind: str, object_id: str, field: str, sealed: bytes | None) -> Any:
    """Opens a sealed field. Raises `VaultError` if it is missing or not exactly this tenant's, object's and field's."""
    if sealed is None:
        raise VaultError
    return orjson.loads(open_record(key.subkey("record"), sealed, _context(key, kind, object_id, field)))


def _context(key: DataKey, kind: str, object_id: str, field: str) -> bytes:
    return encode_context("record", key.tenant, kind, object_id, field)
