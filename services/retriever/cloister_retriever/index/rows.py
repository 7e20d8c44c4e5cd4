"""A passage as a row of Milvus, and back. A row that comes back may be anything: others can write to Milvus."""

from collections.abc import Iterable, Mapping
from typing import TypedDict

from cloister_common.logs import get_logger

from cloister_retriever.index.protocol import DROPPED, Entry, Hit, SealedPassage

__all__ = ["FIELDS", "ID_FIELDS", "SEALED_FIELDS", "Row", "hits_of", "row_of"]

log = get_logger(__name__)

ID_FIELDS = ("id", "store_id", "attachment_id", "file_id")
SEALED_FIELDS = ("sealed_vector", "sealed_passage")
FIELDS = ("attachment_id", "file_id", "position", *SEALED_FIELDS)
"""What a search asks for beside the id."""


class Row(TypedDict):
    """The fields of the collection, in Milvus's types."""

    id: str
    store_id: str
    attachment_id: str
    file_id: str
    position: int
    dense: list[float]
    sealed_vector: str
    sealed_passage: str


def row_of(entry: Entry) -> Row:
    """The row that an entry is written as."""
    passage = entry.passage
    return {
        "id": passage.id,
        "store_id": passage.store_id,
        "attachment_id": passage.attachment_id,
        "file_id": passage.file_id,
        "position": passage.position,
        "dense": entry.dense,
        "sealed_vector": passage.sealed_vector,
        "sealed_passage": passage.sealed_passage,
    }


def hits_of(store_id: str, rows: Iterable[Mapping[str, object]]) -> list[Hit]:
    """The hits that rows of this store are, each passage once."""
    hits = (_hit_of(store_id, row) for row in {row["id"]: row for row in rows}.values())
    return [hit for hit in hits if hit is not None]


def _hit_of(store_id: str, fields: Mapping[str, object]) -> Hit | None:
    """The hit that a row of this store is. One that lacks a field, or has it in another type, is no passage: None."""
    match fields:
        case {
            "id": str(name),
            "attachment_id": str(attachment_id),
            "file_id": str(file_id),
            "position": int(position),
            "sealed_vector": str(vector),
            "sealed_passage": str(passage),
        }:
            return Hit(
                SealedPassage(name, store_id, attachment_id, file_id, position, vector, passage),
                terms=None,
            )
    DROPPED.labels("malformed").inc()
    log.error("passage_is_malformed", passage=str(fields.get("id"))[:64])
    return None
