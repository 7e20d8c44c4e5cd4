"""The key of one object, as it is handed out: for its purposes, never itself."""

from cloister_common.vault.record import derive

__all__ = ["DataKey"]


class DataKey:
    """The key of one object. Give out only `subkey`\\ s; the key itself has no repr.

    A keyring hands out the same object for as long as the key is in its memory. So what a key has opened can be kept by
    a weak reference to it, and leaves the memory with the key.
    """

    __slots__ = ("__weakref__", "_key", "_subkeys", "tenant")

    def __init__(self, key: bytes, *, tenant: str) -> None:
        self._key = key
        self._subkeys: dict[str, bytes] = {}
        self.tenant = tenant

    def subkey(self, label: str) -> bytes:
        """The 32-byte key for one purpose (``items``, ``stream``, ``chain``, …)."""
        found = self._subkeys.get(label)
        if found is None:
            found = self._subkeys[label] = derive(self._key, label)
        return found

    def __repr__(self) -> str:
        return "DataKey(***)"
