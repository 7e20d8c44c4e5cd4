"""The rules of embedding: which texts are taken, how they are counted, where they wait."""

from cloister_common.wire.embeddings import EmbeddingRequest, check_dimensions, render_embeddings

from cloister_embedder.context import Context
from cloister_embedder.tokenizing import prepare

__all__ = ["embed"]


async def embed(context: Context, request: EmbeddingRequest, *, bulk: bool) -> bytes:
    """The JSON answer to ``request``. Usage counts every text, duplicates too, with the model's special tokens.

    Raises:
        CloisterError: Any of the wire contract's errors, a model that is not there or not ready, a full queue.
    """
    model = context.registry.get(request.model, "text", "image")
    texts = request.texts()
    dimensions = model.encoder.dimensions
    assert dimensions is not None
    check_dimensions(request, dimensions)
    single = isinstance(request.input, str)
    prepared = await prepare(
        model.encoder, texts, context.tokenizers, lambda index: "input" if single else f"input[{index}]"
    )
    vectors: list[bytes] = await model.batcher.submit(prepared, bulk=bulk)
    return await render_embeddings(
        model=request.model,
        vectors=vectors,
        encoding_format=request.encoding_format,
        prompt_tokens=sum(tokens.length for tokens in prepared),
    )
