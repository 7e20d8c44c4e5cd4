"""Sealed JSON fields of the Redis hash that stands for one object (a conversation, a response), and their types."""

from typing import Any, Generic, Literal, NamedTuple, TypeVar

import orjson
from cloister_common.vault import DataKey, VaultError, encode_context, open_record, seal
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

__all__ = ["KeyedObject", "Record", "SealedField", "open_field", "seal_field"]

T = TypeVar("T")


class KeyedObject(NamedTuple):
    """The object that records and logs belong to, with its data key."""

    kind: str
    id: str
    key: DataKey


class Record(BaseModel):
    """What is sealed in one field. It cannot be changed: a change is another record.

    While gateways are upgraded, two versions read each other's records. So a field that comes later has a default, and
    one that a reader does not know is passed over.

    Attributes:
        v: The version of the layout; records of the time before there were versions have none and read as 1. It is
            raised, and the earlier ones are translated in a validator, where a reader of an earlier version must not
            go on: it takes the record for damaged.
    """

    model_config = ConfigDict(frozen=True)

    v: Literal[1] = 1


class SealedField(Generic[T]):
    """One field and what it holds.

    Args:
        name: The hash's field; the seal is bound to it.
        model: A `Record`, or the type of JSON that is not ours.
    """

    def __init__(self, name: str, model: type[T]) -> None:
        self.name = name
        self._adapter: TypeAdapter[T] = TypeAdapter(model)

    def seal(self, keyed: KeyedObject, value: T) -> bytes:
        """Seals ``value`` as this field of the object."""
        plain = value.model_dump() if isinstance(value, BaseModel) else value
        return seal_field(keyed.key, keyed.kind, keyed.id, self.name, plain)

    def open(self, keyed: KeyedObject, sealed: bytes | None) -> T:
        """What the field holds.

        Raises:
            VaultError: It is missing, not exactly this object's and field's, or lacks what its type has.
        """
        value = open_field(keyed.key, keyed.kind, keyed.id, self.name, sealed)
        try:
            return self._adapter.validate_python(value)
        except ValidationError:
            # Without its cause, which quotes the record.
            raise VaultError from None


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
