"""The rules of reranking: a query with each document is one input of the model, and none is cut."""

from concurrent.futures import Executor
from typing import Any

from cloister_common.wire.rerank import RerankRequest, rerank_body

from cloister_embedder.registry import Registry
from cloister_embedder.tokenizing import prepare

__all__ = ["RerankService"]


class RerankService:
    """Reranks documents.

    Args:
        registry: The models.
        tokenizers: Threads to tokenise in.
    """

    def __init__(self, registry: Registry, tokenizers: Executor) -> None:
        self._registry = registry
        self._tokenizers = tokenizers

    async def rerank(self, request: RerankRequest, *, bulk: bool) -> dict[str, Any]:
        """The answer to ``request``: documents by relevance to the query.

        Raises:
            CloisterError: A pair that is too long, a model that is not there or not ready, a full queue.
        """
        model = self._registry.get(request.model, "rerank")
        pairs = [(request.query, document) for document in request.documents]
        prepared = await prepare(model.encoder, pairs, self._tokenizers, lambda index: f"documents[{index}]")
        scores: list[float] = await model.batcher.submit(prepared, bulk=bulk)
        return rerank_body(request, scores, prompt_tokens=sum(tokens.length for tokens in prepared))
