"""Stored truth: sealed records and sealed, chained item logs in Redis. Nothing readable ever reaches the store."""

from cloister_gateway.storage.items import (
    ItemLog,
    LogDamagedError,
    LogGoneError,
    LogLockedError,
    Owner,
    StoredItem,
    StoredLog,
)
from cloister_gateway.storage.records import RecordGoneError, open_field, record_key, seal_field

__all__ = [
    "ItemLog",
    "LogDamagedError",
    "LogGoneError",
    "LogLockedError",
    "Owner",
    "RecordGoneError",
    "StoredItem",
    "StoredLog",
    "open_field",
    "record_key",
    "seal_field",
]
