"""Stored truth: sealed records and sealed, chained item logs in Redis. Nothing readable ever reaches the store."""

from cloister_gateway.storage.chain import StoredItem
from cloister_gateway.storage.damage import damage_told, is_wrong_type
from cloister_gateway.storage.errors import (
    DamagedError,
    LogDamagedError,
    LogGoneError,
    LogLockedError,
    RecordGoneError,
    StoreError,
)
from cloister_gateway.storage.items import ItemLog, PreparedItems, must_retry
from cloister_gateway.storage.layout import CONVERSATION, RESPONSE, record_key
from cloister_gateway.storage.opened import OpenedLogs, StoredLog
from cloister_gateway.storage.records import KeyedObject, Record, SealedField, open_field, seal_field

__all__ = [
    "CONVERSATION",
    "RESPONSE",
    "DamagedError",
    "ItemLog",
    "KeyedObject",
    "LogDamagedError",
    "LogGoneError",
    "LogLockedError",
    "OpenedLogs",
    "PreparedItems",
    "Record",
    "RecordGoneError",
    "SealedField",
    "StoreError",
    "StoredItem",
    "StoredLog",
    "damage_told",
    "is_wrong_type",
    "must_retry",
    "open_field",
    "record_key",
    "seal_field",
]
