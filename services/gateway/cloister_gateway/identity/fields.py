"""One record's fields as Redis has them. What is not what was written is left empty, and noted.

A list that fails for one record hides all the others, and a key whose name was damaged must be revocable still: so
records of identity are read as far as they can be, and say that they are damaged. Nothing is allowed by what is read
here: a key's rights are in its HMAC and in `cloister_gateway.identity.rights`, and both must hold.
"""

from collections.abc import Mapping

from cloister_common.logs import get_logger
from cloister_common.vault import VaultError

from cloister_gateway.identity.seals import Seals

__all__ = ["StoredFields"]

log = get_logger(__name__)


class StoredFields:
    """The fields of one record.

    Args:
        what: The record, for the log: its kind and id.
        fields: What Redis has, nothing at all if it has no such record.

    Attributes:
        damaged: Whether one of the fields read so far is not what was written.
    """

    def __init__(self, what: str, fields: Mapping[bytes, bytes]) -> None:
        self._what = what
        self._fields = fields
        self.damaged = False

    def raw(self, name: str) -> bytes:
        """A field that every such record has."""
        found = self._fields.get(name.encode())
        if found is None:
            self.damage(name)
        return found or b""

    def text(self, name: str) -> str:
        """A field of clear text that every such record has."""
        try:
            return self.raw(name).decode()
        except UnicodeDecodeError:
            self.damage(name)
            return ""

    def number(self, name: str) -> int:
        """A number that every such record has."""
        if name.encode() not in self._fields:
            self.damage(name)
        return self.optional_number(name) or 0

    def optional_number(self, name: str) -> int | None:
        """A number that such a record may have."""
        found = self._fields.get(name.encode())
        try:
            return None if found is None else int(found)
        except ValueError:
            self.damage(name)
            return None

    async def name(self, seals: Seals, owner: str, object_id: str) -> str:
        """The sealed name of ``object_id``, which belongs to ``owner``."""
        sealed = self.raw("name")
        try:
            return await seals.open_name(owner, object_id, sealed) if sealed else ""
        except VaultError as error:
            self.damage("name", error)
            return ""

    async def holder(self, seals: Seals, owner: str, key_id: str) -> tuple[str, frozenset[str]]:
        """The sealed holder of the key ``key_id``, if it has one: a person and their groups, both empty if not."""
        sealed = self._fields.get(b"holder")
        try:
            return ("", frozenset()) if sealed is None else await seals.open_holder(owner, key_id, sealed)
        except VaultError as error:
            self.damage("holder", error)
            return "", frozenset()

    def damage(self, field: str, error: Exception | None = None) -> None:
        """Notes that ``field`` is not what was written."""
        self.damaged = True
        log.error("stored_data_damaged", what=self._what, field=field, exc_info=error)
