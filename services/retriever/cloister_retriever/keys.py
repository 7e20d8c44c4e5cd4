"""Keys that several rooms need: of a file's passages in a vector store, and of what belongs to no tenant.

The first need both the store's key and the file's: destroying either makes the file's passages unreadable there.
"""

from typing import NamedTuple

from cloister_common.vault import DataKey, Keyring
from cloister_common.vault.record import derive

from cloister_retriever.editions import in_edition

__all__ = [
    "ACCESS",
    "BUNDLE",
    "FILE",
    "SYSTEM_TENANT",
    "UPLOAD",
    "VECTOR_STORE",
    "EditionKeys",
    "PassageKeyring",
    "PassageKeys",
    "edition_keys",
    "passage_keys",
    "picture_key",
    "picture_place",
    "place_key",
    "system_key",
]

FILE = "file"
UPLOAD = "upload"
VECTOR_STORE = "vector_store"
ACCESS = "access"
BUNDLE = "bundle"
"""What the keyring calls the objects that have a key of their own."""

_PICTURES = "_pictures"

SYSTEM_TENANT = ":retriever"
"""Whose key seals what belongs to no tenant. No caller can name it: a tenant's id has no colon."""


class PassageKeys(NamedTuple):
    """What seals the passages of one file in one edition of a vector store, 32 bytes each."""

    passages: bytes
    vectors: bytes
    texts: bytes
    names: bytes
    """Makes passage ids; of the store's edition alone."""

    rotation: bytes
    """Seeds the secret rotation; of the store's edition alone, since a query does not know the file."""

    terms: bytes
    """Gives terms their ids; of the store's edition alone, for the same reason."""


class EditionKeys(NamedTuple):
    """What of `PassageKeys` is the same for all files of an edition."""

    names: bytes
    rotation: bytes
    terms: bytes


class PassageKeyring:
    """Finds the keys of a file's passages."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def get(self, tenant: str, store_key: DataKey, file_id: str, edition: int = 0) -> PassageKeys | None:
        """The keys in an edition of the store, or None if the file's is gone."""
        file_key = await self._keyring.get(tenant, FILE, file_id)
        return None if file_key is None else passage_keys(store_key, file_key, edition)


def passage_keys(store_key: DataKey, file_key: DataKey, edition: int = 0) -> PassageKeys:
    """Derives the keys. Passages, vectors and text hang on both data keys; the text is the same in every edition."""

    def both(label: str) -> bytes:
        return derive(store_key.subkey(label), "with-file", file_key.subkey(label))

    shared = edition_keys(store_key, edition)
    return PassageKeys(
        passages=both(in_edition("passages", edition)),
        vectors=both(in_edition("vectors", edition)),
        texts=both("segments"),
        names=shared.names,
        rotation=shared.rotation,
        terms=shared.terms,
    )


def edition_keys(store_key: DataKey, edition: int = 0) -> EditionKeys:
    """Derives the keys that hang on the store alone."""
    return EditionKeys(
        *(store_key.subkey(in_edition(label, edition)) for label in ("passage-ids", "rotation", "terms"))
    )


def picture_key(store_key: DataKey, tenant: str) -> DataKey:
    """What a vector store's pictures are sealed under: of its key, and with it destroyed."""
    return DataKey(store_key.subkey("pictures"), tenant=tenant)


def picture_place(store_id: str) -> str:
    """What an index calls a vector store's pictures."""
    return f"{store_id}{_PICTURES}"


async def place_key(keyring: Keyring, tenant: str, store_id: str) -> DataKey | None:
    """The key of what an index has under this name, a vector store's or that of its pictures; None if it is gone.

    Raises:
        VaultError: There is one, but it does not open.
    """
    of = store_id.removesuffix(_PICTURES)
    key = await keyring.get(tenant, VECTOR_STORE, of)
    return key if key is None or of == store_id else picture_key(key, tenant)


async def system_key(keyring: Keyring) -> DataKey:
    """The key of records that belong to no tenant. Of two processes that make it, both use the winner's."""
    return await keyring.obtain(SYSTEM_TENANT, "system", "records")
