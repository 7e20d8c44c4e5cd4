"""The embedding models that there are: those that the embedder serves now."""

import time

from cloister_common.clients.embedder import EmbedderClient
from cloister_common.errors import Conflict
from cloister_common.wire.models import model_not_found

__all__ = ["EmbeddingModels"]

_LOOK_SECONDS = 10.0


class EmbeddingModels:
    """Which of the embedder's models embed passages and queries.

    Args:
        embedder: The embedder.
        default: The public name of the model of new vector stores. It is taken to be there.
    """

    def __init__(self, embedder: EmbedderClient, default: str) -> None:
        self.default = default
        self._embedder = embedder
        self._names: frozenset[str] = frozenset()
        self._looked_at: float | None = None

    async def serves(self, model: str) -> bool:
        """Whether ``model`` is there now; asked anew every ten seconds at most.

        Raises:
            Unavailable: The embedder does not answer.
        """
        if model == self.default:
            return True
        if self._looked_at is None or time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            listed = await self._embedder.models()
            texts = (one for one in listed if (one.get("cloister") or {}).get("kind") == "text")
            self._names = frozenset(str(one.get("id")) for one in texts)
            self._looked_at = time.monotonic()
        return model in self._names

    async def require(self, model: str) -> None:
        """Raises `NotFound` unless ``model`` is there, and `Unavailable` while that cannot be known."""
        if not await self.serves(model):
            raise model_not_found(model)

    async def require_of(self, store_id: str, model: str) -> None:
        """Raises `Conflict` unless ``model``, with which a vector store was embedded, is there."""
        if not await self.serves(model):
            raise Conflict(
                f"The vector store '{store_id}' was made with an embedding model that is not served any more. Embed "
                f"it anew: POST /cloister/v1/vector_stores/{store_id}/reembed.",
                code="embedding_model_changed",
            )
