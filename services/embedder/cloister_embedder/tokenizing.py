"""Tokenising off the event loop, in small groups, so that a query is not stuck behind the tokens of an upload."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from cloister_common.wire.embeddings import too_long

from cloister_embedder.models import Encoder, Tokens

__all__ = ["prepare"]

_GROUP = 128
"""Texts tokenised before another request gets its turn: some milliseconds."""


async def prepare(
    encoder: Encoder[Any],
    texts: Sequence[str] | Sequence[tuple[str, str]],
    executor: Executor,
    field: Callable[[int], str],
) -> list[Tokens]:
    """The tokens of ``texts``.

    Args:
        encoder: The model that will read them.
        texts: Texts or pairs.
        executor: Threads to tokenise in.
        field: The name of the i-th text in the request, for the error.

    Raises:
        InvalidRequest: A text is longer than the model reads; it is named, with its length and the limit.
    """
    loop = asyncio.get_running_loop()
    prepared: list[Tokens] = []
    for start in range(0, len(texts), _GROUP):
        prepared += await loop.run_in_executor(executor, encoder.prepare, texts[start : start + _GROUP])
        for index in range(start, len(prepared)):
            if prepared[index].length > encoder.max_tokens:
                raise too_long(field(index), tokens=prepared[index].length, limit=encoder.max_tokens)
    return prepared
