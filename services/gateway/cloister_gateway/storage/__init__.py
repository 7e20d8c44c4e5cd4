"""Stored truth: sealed records and sealed, chained item logs in Redis. Nothing readable ever reaches the store."""

from cloister_gateway.storage.damage import DamagedError, damage_told, is_wrong_type
from cloister_gateway.storage.items import (
    ItemLog,
    LogDamagedError,
    LogGoneError,
    LogLockedError,
    Owner,
    StoredItem,
    StoredLog,
)
from cloister_gateway.storage.layout import CONVERSATION, RESPONSE, record_key
from cloister_gateway.storage.records import RecordGoneError, open_field, seal_field

__all__ = [
    "CONVERSATION",
    "RESPONSE",
    "DamagedError",
    "ItemLog",
    "LogDamagedError",
    "LogGoneError",
    "LogLockedError",
    "Owner",
    "RecordGoneError",
    "StoredItem",
    "StoredLog",
    "damage_told",
    "is_wrong_type",
    "open_field",
    "record_key",
    "seal_field",
]
