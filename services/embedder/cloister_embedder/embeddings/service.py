"""The rules of embedding: which texts are taken, how they are counted, where they wait."""

from concurrent.futures import Executor

from cloister_common.wire.embeddings import EmbeddingRequest, check_dimensions, render_embeddings

from cloister_embedder.models import shortened
from cloister_embedder.registry import Registry
from cloister_embedder.tokenizing import prepare

__all__ = ["EmbeddingService"]


class EmbeddingService:
    """Embeds texts.

    Args:
        registry: The models.
        tokenizers: Threads to tokenise in.
    """

    def __init__(self, registry: Registry, tokenizers: Executor) -> None:
        self._registry = registry
        self._tokenizers = tokenizers

    async def embed(self, request: EmbeddingRequest, *, bulk: bool) -> bytes:
        """The JSON answer to ``request``. Usage counts every text, duplicates too, with the model's special tokens.

        Raises:
            CloisterError: Any of the wire contract's errors, a model that is not there or not ready, a full queue.
        """
        model = self._registry.get(request.model, "text", "image")
        texts = request.texts()
        whole = model.encoder.dimensions
        assert whole is not None
        dimensions = check_dimensions(request, whole, model.encoder.shorter)
        single = isinstance(request.input, str)
        prepared = await prepare(
            model.encoder,
            texts,
            self._tokenizers,
            lambda index: "input" if single else f"input[{index}]",
            request.input_type,
        )
        vectors: list[bytes] = await model.batcher.submit(prepared, bulk=bulk)
        return await render_embeddings(
            model=request.model,
            vectors=vectors if dimensions == whole else shortened(vectors, dimensions),
            encoding_format=request.encoding_format,
            prompt_tokens=sum(tokens.length for tokens in prepared),
        )
