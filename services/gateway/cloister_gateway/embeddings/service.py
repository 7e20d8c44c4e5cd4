"""Embeddings as they are asked of the embedder, whoever asks: a route, or a batch."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from cloister_common.bodies import aside
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.wire.embeddings import MAX_TEXTS, EmbeddingRequest

from cloister_gateway.embeddings.sizes import prompt_size
from cloister_gateway.embeddings.vocabulary import MOST_TOKENS, holds_tokens, with_texts
from cloister_gateway.identity.principal import Principal
from cloister_gateway.usage import Metering

__all__ = ["MOST_NUMBERS", "Embedded", "EmbeddingService"]

MOST_NUMBERS = MOST_TOKENS + 2 * MAX_TEXTS
"""JSON values of a body of token ids: besides the ids its lists, and some."""


class Embedded(NamedTuple):
    """An answer: its JSON bytes, and the headers that tell the caller how it stands."""

    content: bytes
    headers: Mapping[str, str]


class EmbeddingService:
    """Has texts, token ids and images embedded.

    Args:
        embedder: Who does it.
        metering: Puts each request behind the limits.
        bulk: Whether nobody waits for what is asked of it: then all others go first.
    """

    def __init__(self, embedder: EmbedderClient, metering: Metering, *, bulk: bool = False) -> None:
        self._embedder = embedder
        self._metering = metering
        self._bulk = bulk

    async def embed(self, caller: Principal, asked: EmbeddingRequest, body: bytes) -> Embedded:
        """Vectors, in OpenAI's schema.

        Args:
            caller: Who asks.
            asked: What for.
            body: The same as it came.

        Raises:
            TooManyRequests: The caller may have no more now.
            CloisterError: The embedder refuses it, or is away.
        """
        if holds_tokens(asked.input):
            # In a thread also where it is small: the first call reads the vocabulary.
            asked = asked.model_copy(update={"input": await asyncio.to_thread(with_texts, asked.input)})
            body = asked.model_dump_json(exclude_none=True).encode()
        # (An image has no tokens.)
        texts = ["" if isinstance(item, bytes) else item for item in asked.inputs()]
        prompt = await aside(len(body), prompt_size, texts)
        async with self._metering.around(caller, asked.model, "embeddings", prompt=prompt) as metered:
            metered.used.silent = True
            answer = await self._embedder.pass_embeddings(body, tenant=caller.tenant, bulk=self._bulk)
            metered.used.silent, metered.used.prompt = False, answer.prompt_tokens
        return Embedded(answer.content, metered.headers)
