"""A pod's completions in OpenAI's shape, whole and in chunks: each field that is there in OpenAI's schema, no other.

vLLM says more (``stop_reason``, ``prompt_logprobs``, ``token_ids`` …).
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson

from cloister_gateway.models.upstream import payloads

__all__ = ["completion", "shaped"]

Body = dict[str, Any]

_HEAD = ("id", "object", "created", "model")
_CHOICE = ("index", "text", "logprobs", "finish_reason")
_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
_DONE = b"data: [DONE]\n\n"


def completion(raw: bytes) -> bytes:
    """A whole answer, or the JSON of a chunk: the two look the same."""
    answer = orjson.loads(raw)
    shaped: Body = {name: answer[name] for name in _HEAD}
    shaped["choices"] = [{name: choice.get(name) for name in _CHOICE} for choice in answer["choices"]]
    usage = answer.get("usage")
    if usage is not None:
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        shaped["usage"] = {
            **{name: usage[name] for name in _USAGE},
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        }
    return orjson.dumps(shaped)


async def shaped(events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The blocks of a stream. It closes ``events`` when it is closed."""
    async with aclosing(events) as blocks:
        async for block in blocks:
            chunks = b"".join([b"data: " + completion(payload) + b"\n\n" for payload in payloads(block)])
            yield chunks + _DONE if block.endswith(_DONE) else chunks
