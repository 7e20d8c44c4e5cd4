"""The rules of embedding: which texts and images are taken, how they are counted, where they wait."""

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import Executor

from cloister_common.wire.embeddings import EmbeddingRequest, check_dimensions, render_embeddings

from cloister_embedder.models import shortened
from cloister_embedder.registry import Registry
from cloister_embedder.tokenizing import prepare_inputs

__all__ = ["EmbeddingService"]

_WITH_IMAGES_AT_ONCE = 2
"""Requests with images of either lane that wait for their vectors: a decoded one has 0.6 MB, where a text has a few
hundred bytes."""


class EmbeddingService:
    """Embeds texts.

    Args:
        registry: The models.
        tokenizers: Threads to tokenise in.
    """

    def __init__(self, registry: Registry, tokenizers: Executor) -> None:
        self._registry = registry
        self._tokenizers = tokenizers
        self._with_images = {bulk: asyncio.Semaphore(_WITH_IMAGES_AT_ONCE) for bulk in (False, True)}

    async def embed(self, request: EmbeddingRequest, *, bulk: bool) -> bytes:
        """The JSON answer to ``request``. Usage counts every text, duplicates too, with the model's special tokens, and
        of an image its patches.

        Raises:
            CloisterError: Any of the wire contract's errors, a model that is not there or not ready, a full queue.
        """
        model = self._registry.get(request.model, "text", "image")
        inputs: Sequence[str | bytes] = request.inputs() if model.kind == "image" else request.texts()
        whole = model.encoder.dimensions
        assert whole is not None
        dimensions = check_dimensions(request, whole, model.encoder.shorter)
        has_images = any(isinstance(one, bytes) for one in inputs)
        async with self._with_images[bulk] if has_images else contextlib.nullcontext():
            prepared = await prepare_inputs(model.encoder, inputs, self._tokenizers, request.field, request.input_type)
            vectors: list[bytes] = await model.batcher.submit(prepared, bulk=bulk)
        return await render_embeddings(
            model=request.model,
            vectors=vectors if dimensions == whole else shortened(vectors, dimensions),
            encoding_format=request.encoding_format,
            prompt_tokens=sum(tokens.length for tokens in prepared),
        )
