"""Keys that need both a vector store and a file: destroying either makes the file's passages unreadable there."""

from typing import NamedTuple

from cloister_common.vault import DataKey
from cloister_common.vault.record import derive

__all__ = ["PassageKeys", "passage_keys"]


class PassageKeys(NamedTuple):
    """What seals the passages of one file in one vector store, 32 bytes each."""

    passages: bytes
    vectors: bytes
    texts: bytes
    names: bytes
    """Makes passage ids; of the store alone."""

    rotation: bytes
    """Seeds the secret rotation; of the store alone, since a query does not know the file."""


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
    )
