"""Embedding anew on the wire. OpenAI has no word for it."""

from typing import Literal

from cloister_common.wire.requests import RequestModel
from pydantic import BaseModel, Field

from cloister_retriever.editions import Edition
from cloister_retriever.storage.editions import Comparison, Editions, Switching

__all__ = ["FileProgress", "Reembed", "Reembedding"]


class Reembed(RequestModel):
    """``POST /cloister/v1/vector_stores/{id}/reembed``."""

    model: str | None = Field(
        None, min_length=1, max_length=256, description="The embedding model; by default that of new vector stores."
    )
    switch: Switching = Field(
        "auto",
        description="`auto`: the store is searched with it as soon as it finds its samples about as well as before; "
        "`manual`: only when it is told to.",
    )


class FileProgress(BaseModel):
    """How many of the store's completed files the edition beside has."""

    total: int
    completed: int


class Reembedding(BaseModel):
    """Where a vector store is with it.

    Attributes:
        status: ``none``: there is one edition. ``in_progress``: another is being filled beside. ``failed``: it cannot
            be, as ``last_error`` says. ``ready``: it was, and can be searched instead. ``switched``: it is, and the one
            before is kept.
        serving: What is searched.
        beside: The other one.
    """

    object: Literal["vector_store.reembedding"] = "vector_store.reembedding"
    vector_store_id: str
    status: Literal["none", "in_progress", "failed", "ready", "switched"]
    created_at: int | None
    switch: Switching
    serving: Edition
    beside: Edition | None
    file_counts: FileProgress | None
    comparison: Comparison | None
    last_error: str | None

    @classmethod
    def of(cls, store_id: str, editions: Editions, files: FileProgress | None) -> "Reembedding":
        """How a store's editions look on the wire."""
        status: Literal["none", "in_progress", "failed", "ready", "switched"] = "in_progress"
        if editions.beside is None:
            status = "none"
        elif editions.beside.number < editions.serving.number:
            status = "switched"
        elif editions.ready:
            status = "ready"
        elif editions.failure is not None:
            status = "failed"
        return cls(
            vector_store_id=store_id,
            status=status,
            created_at=editions.created_at,
            switch=editions.switching,
            serving=editions.serving,
            beside=editions.beside,
            file_counts=files,
            comparison=editions.comparison,
            last_error=editions.failure,
        )
