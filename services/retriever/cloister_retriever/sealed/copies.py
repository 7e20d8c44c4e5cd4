"""Copies of many small packs in one: what a bundle of a sealed vector store holds.

A store of thousands of small files has as many packs, and each costs a read and a file's key; a bundle has up to as
many passages as the largest pack.

    a line of JSON ‖ arrays ‖ the texts, each still sealed under the keys of its file
"""

from collections.abc import Mapping
from typing import NamedTuple

from cloister_common.vault import VaultError

from cloister_retriever.editions import Place
from cloister_retriever.index.passages import PassageOwner
from cloister_retriever.sealed.block import Block, Part
from cloister_retriever.sealed.pack import joined, parted

__all__ = ["Copies", "encoded", "is_small", "opened"]

_SMALL_PASSAGES = 256
"""An eighth of the largest pack."""


class Copies(NamedTuple):
    """What a bundle has: passages, and the e-tag that the pack of each part had."""

    block: Block
    tags: dict[Part, str]


def is_small(part: Part) -> bool:
    """Whether a pack is worth copying: of larger ones there are few."""
    return part.passages <= _SMALL_PASSAGES


def encoded(block: Block, tags: Mapping[Part, str]) -> bytes:
    """The content of a bundle with all parts of a block."""
    parts = [
        [part.owner.file_id, part.owner.attachment_id, part.first, part.passages, tags[part]] for part in block.parts
    ]
    return joined({"passages": len(block), "parts": parts}, block.arrays) + bytes(block.texts)


def opened(content: bytes, tenant: str, place: Place, names: bytes) -> Copies:
    """What `encoded` made a content of.

    Args:
        content: What was sealed, of this tenant and place.
        tenant: Whose it is.
        place: Of the store's edition.
        names: The key of the store's edition that makes passage ids.

    Raises:
        VaultError: It is none.
    """
    try:
        head, arrays, texts = parted(content)
        tags = {
            Part(PassageOwner(tenant, place.store_id, file_id, attachment_id, place.edition), first, passages): tag
            for file_id, attachment_id, first, passages, tag in head["parts"]
        }
    except (ValueError, KeyError, TypeError):
        # Without its cause, which may quote it.
        raise VaultError from None
    return Copies(Block(list(tags), names, arrays, texts), tags)
