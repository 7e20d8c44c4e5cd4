"""Keys that several rooms need: of a file's passages in a vector store, and of what belongs to no tenant.

The first need both the store's key and the file's: destroying either makes the file's passages unreadable there.
"""

from typing import NamedTuple

from cloister_common.vault import DataKey, Keyring
from cloister_common.vault.record import derive

__all__ = [
    "FILE",
    "SYSTEM_TENANT",
    "UPLOAD",
    "VECTOR_STORE",
    "PassageKeyring",
    "PassageKeys",
    "passage_keys",
    "system_key",
]

FILE = "file"
UPLOAD = "upload"
VECTOR_STORE = "vector_store"
"""What the keyring calls the objects that have a key of their own."""

SYSTEM_TENANT = ":retriever"
"""Whose key seals what belongs to no tenant. No caller can name it: a tenant's id has no colon."""


class PassageKeys(NamedTuple):
    """What seals the passages of one file in one vector store, 32 bytes each."""

    passages: bytes
    vectors: bytes
    texts: bytes
    names: bytes
    """Makes passage ids; of the store alone."""

    rotation: bytes
    """Seeds the secret rotation; of the store alone, since a query does not know the file."""

    terms: bytes
    """Gives terms their ids; of the store alone, for the same reason."""


class PassageKeyring:
    """Finds the keys of a file's passages."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def get(self, tenant: str, store_key: DataKey, file_id: str) -> PassageKeys | None:
        """The keys, or None if the file's is gone."""
        file_key = await self._keyring.get(tenant, FILE, file_id)
        return None if file_key is None else passage_keys(store_key, file_key)


def passage_keys(store_key: DataKey, file_key: DataKey) -> PassageKeys:
    """Derives the keys. Passages, vectors and text hang on both data keys."""

    def both(label: str) -> bytes:
        return derive(store_key.subkey(label), "with-file", file_key.subkey(label))

    return PassageKeys(
        passages=both("passages"),
        vectors=both("vectors"),
        texts=both("segments"),
        names=store_key.subkey("passage-ids"),
        rotation=store_key.subkey("rotation"),
        terms=store_key.subkey("terms"),
    )


async def system_key(keyring: Keyring) -> DataKey:
    """The key of records that belong to no tenant. Of two processes that make it, both use the winner's."""
    return await keyring.obtain(SYSTEM_TENANT, "system", "records")
