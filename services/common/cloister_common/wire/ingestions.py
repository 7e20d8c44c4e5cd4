"""What retriever and gateway tell each other of ingestions, which use tokens of an embedding model.

The retriever keeps a note of each until a gateway has it among its rows; gateways come and look, since the retriever
calls nobody. So whichever of the two is killed, the note is there for the next.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["IngestionNote", "IngestionNotes", "Word"]


class Word(BaseModel):
    """What a gateway says to an ingestion that asks.

    Attributes:
        state: ``runs``: it may embed, and its tokens are reserved. ``waits``: not yet, but soon. ``refused``: not at
            all.
        message: Why not.
    """

    model_config = ConfigDict(extra="forbid")

    state: Literal["runs", "waits", "refused"]
    message: str = ""


class IngestionNote(BaseModel):
    """An ingestion that is to be paid for.

    Attributes:
        id: Its own: of one time that a file was attached.
        tenant: The project.
        key, user: Who pays, as `cloister_common.payer.Payer` has it.
        model: That embeds.
        begun: When (Unix seconds).
        state: ``asks``: nothing is embedded yet, and ``tokens`` are the most it may be; ``runs``, ``waits`` and
            ``refused``: what it was told; ``ended``: ``tokens`` are what the embedder counted.
        tokens: How many.
        message: Why it was told no.
        ending: How it ended.
        exact: Whether the embedder counted. What a process that died had embedded nobody knows: then they are the most
            it may be.
    """

    id: str
    tenant: str
    key: str
    user: str
    model: str
    begun: int
    state: Literal["asks", "runs", "waits", "refused", "ended"]
    tokens: int
    message: str = ""
    ending: Literal["completed", "failed", "cancelled"] = "completed"
    exact: bool = True


class IngestionNotes(BaseModel):
    """Some of them, the oldest first."""

    data: list[IngestionNote]
