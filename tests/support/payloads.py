"""The chunks of a streamed chat completion, one by one, as those who read them see them."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from cloister_gateway.models.upstream import ModelUpstream, payloads

__all__ = ["payloads_of"]


async def payloads_of(
    upstream: ModelUpstream, model: str, body: Mapping[str, Any], *, tenant: str
) -> AsyncGenerator[bytes, None]:
    """The JSON of each chunk, without ``[DONE]``. Closing the iterator closes the stream."""
    async with aclosing(upstream.stream_events(model, body, tenant=tenant)) as blocks:
        async for block in blocks:
            for payload in payloads(block):
                yield payload
