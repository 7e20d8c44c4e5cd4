"""Sealing a passage for the index, and opening it: its text with its place, and its exact vector.

The context of both sealed fields names tenant, vector store, file, attachment and position, so one that was copied,
swapped or moved does not open and is not served.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Literal, NamedTuple

import numpy as np
from cloister_common.vault import VaultError, encode_context, open_record, seal
from pydantic import BaseModel, ValidationError

from cloister_retriever.editions import Place
from cloister_retriever.index.protocol import SealedPassage
from cloister_retriever.index.rotation import Vector
from cloister_retriever.keys import PassageKeys

__all__ = [
    "Passage",
    "PassageOwner",
    "PictureMark",
    "open_passage",
    "open_vector",
    "passage_id",
    "passage_name",
    "seal_passage",
]


class PictureMark(BaseModel):
    """The picture that a passage stands for: ``number`` in its file, and how large it is, in pixels."""

    number: int
    media_type: str
    width: int
    height: int
    by: Literal["description", "surroundings"] | None = None
    """What the passage's text is to the picture; None where it has none."""


class Passage(BaseModel):
    """A piece of a document: ``text`` is exactly characters ``start`` to ``end`` of the extracted text."""

    position: int
    text: str
    start: int
    end: int
    page: int | None = None
    section: str | None = None
    heading: str | None = None
    """What stands over ``text`` when it is embedded: as much of ``section`` as the model can read with it."""

    picture: PictureMark | None = None

    @property
    def embedded(self) -> str:
        """What its vector is made of."""
        return self.text if self.heading is None else f"{self.heading}\n{self.text}"


class PassageOwner(NamedTuple):
    """Whose passages these are. ``attachment_id`` is one attachment of the file to the store."""

    tenant: str
    store_id: str
    file_id: str
    attachment_id: str
    edition: int = 0
    """Of the store. It says where they lie; that they belong there is in their keys."""

    @property
    def place(self) -> str:
        """The name that the place of the store's edition has."""
        return Place(self.store_id, self.edition).name


def passage_id(keys: PassageKeys, owner: PassageOwner, position: int) -> str:
    """The same for every run of the same ingestion, so that doing it again replaces and never duplicates."""
    return passage_name(keys.names, owner.attachment_id, position)


def passage_name(names: bytes, attachment_id: str, position: int) -> str:
    """The same by the store's key for names, which needs no file's key."""
    name = encode_context("passage-id", attachment_id, position)
    return "psg_" + hmac.new(names, name, hashlib.sha256).hexdigest()[:48]


def seal_passage(keys: PassageKeys, owner: PassageOwner, passage: Passage, exact: Vector) -> SealedPassage:
    """The passage as an index keeps it. ``exact`` is its unit vector."""
    text = passage.model_dump_json().encode()
    vector = exact.astype("<f4").tobytes()
    return SealedPassage(
        id=passage_id(keys, owner, passage.position),
        store_id=owner.place,
        attachment_id=owner.attachment_id,
        file_id=owner.file_id,
        position=passage.position,
        sealed_vector=_base64(seal(keys.vectors, vector, _context("vector", owner, passage.position))),
        sealed_passage=_base64(seal(keys.passages, text, _context("passage", owner, passage.position))),
    )


def open_vector(keys: PassageKeys, owner: PassageOwner, sealed: SealedPassage) -> Vector:
    """The exact unit vector.

    Raises:
        VaultError: It is not ``owner``'s passage of that position, or was altered.
    """
    raw = open_record(keys.vectors, _bytes(sealed.sealed_vector), _context("vector", owner, sealed.position))
    return np.frombuffer(raw, dtype="<f4")


def open_passage(keys: PassageKeys, owner: PassageOwner, sealed: SealedPassage) -> Passage:
    """The passage.

    Raises:
        VaultError: It is not ``owner``'s passage of that position, or was altered.
    """
    raw = open_record(keys.passages, _bytes(sealed.sealed_passage), _context("passage", owner, sealed.position))
    try:
        return Passage.model_validate_json(raw)
    except ValidationError:
        raise VaultError from None


def _context(kind: str, owner: PassageOwner, position: int) -> bytes:
    return encode_context(kind, owner.tenant, owner.store_id, owner.file_id, owner.attachment_id, position)


def _base64(record: bytes) -> str:
    return base64.b64encode(record).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise VaultError from error
