"""A pod's completions in OpenAI's shape, whole and in chunks: each field that OpenAI's schema has, and no other.

vLLM says more (``stop_reason``, ``prompt_logprobs``, ``token_ids`` …).
"""

from typing import Any

import orjson

from cloister_gateway.chat.shapes import usage_of
from cloister_gateway.models import ChatModel
from cloister_gateway.models.upstream import payloads

__all__ = ["chunks", "completion"]

_HEAD = ("id", "object", "created")
_CHOICE = ("index", "text", "logprobs", "finish_reason")
_DONE = b"data: [DONE]\n\n"
_NO_CHOICES = b'"choices":[]'
"""In text its quotes would be escaped."""


def completion(raw: bytes, model: ChatModel) -> bytes:
    """A whole answer, or the JSON of a chunk: the two look the same."""
    answer = orjson.loads(raw)
    shaped: dict[str, Any] = {name: answer[name] for name in _HEAD}
    shaped["model"] = model.name  # (Pods know an adapter by its version.)
    shaped["system_fingerprint"] = model.fingerprint
    shaped["choices"] = [{name: choice.get(name) for name in _CHOICE} for choice in answer["choices"]]
    if answer.get("usage") is not None:
        shaped["usage"] = usage_of(answer["usage"])
    return orjson.dumps(shaped)


def chunks(block: bytes, model: ChatModel, *, usage: bool) -> bytes:
    """A block of a stream's events; the last, which says what was used and nothing else, only with ``usage``."""
    told = [payload for payload in payloads(block) if usage or _NO_CHOICES not in payload]
    found = b"".join([b"data: " + completion(payload, model) + b"\n\n" for payload in told])
    return found + _DONE if block.endswith(_DONE) else found
