"""A pod's chat completions in OpenAI's shape, whole and in chunks: each field that OpenAI's schema has, and no other.

vLLM says more (``prompt_logprobs``, ``token_ids``, ``stop_reason`` …), some things not at all (``service_tier``), and
others only where it has something to say (``refusal``, the details of usage). What a model thinks is passed on, where
it thinks: there is no other place for it in this API.
"""

from typing import Any

import orjson

from cloister_gateway.models import ChatModel

__all__ = ["ChunkShapes", "completion", "usage_of"]

Body = dict[str, Any]

_PLAIN_END = b'},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'
"""The end of a chunk that carries a token and nothing else, as vLLM writes it."""
_END = b'},"logprobs":null,"finish_reason":null}]}\n\n'
_END_WITH_USAGE = b'},"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
_THOUGHT = b'"reasoning":'
"""In text its quotes would be escaped."""
_DATA = b"data: "
_DONE = b"data: [DONE]\n\n"
_CHOICES = b'"choices":['


def completion(raw: bytes, model: ChatModel, tier: str = "default") -> bytes:
    """A whole answer, served by ``tier``."""
    answer = orjson.loads(raw)
    choices = [
        {
            "index": choice["index"],
            "message": _message(choice["message"]),
            "logprobs": _logprobs(choice.get("logprobs")),
            "finish_reason": choice["finish_reason"],
        }
        for choice in answer["choices"]
    ]
    return orjson.dumps({**_head(answer, model, tier), "choices": choices, "usage": usage_of(answer["usage"])})


class ChunkShapes:
    """The chunks of one stream.

    Nearly all chunks differ in one token: of those the beginning and the end are changed, and what is between them is
    not looked into. The others are read and written anew, which takes seven times as long.

    Args:
        model: Whose they are.
        usage: Whether the caller wants to be told what was used: then OpenAI has ``usage`` in each chunk, null but for
            the last, which says nothing else.
        ours: Whether that one was asked for by the gateway, and is not for the caller.
        tier: The service tier.
    """

    def __init__(self, model: ChatModel, *, usage: bool, ours: bool = False, tier: str = "default") -> None:
        self._model = model
        self._tier = tier
        self._ours = ours
        self._usage = usage
        self._end = _END_WITH_USAGE if usage else _END
        self._pods_head = b"\n"  # No event has it in it: the first chunk is read.
        self._head = b""

    def block(self, block: bytes) -> bytes:
        """A block of whole events, as they go out."""
        if block.find(b"\n\n") == len(block) - 2:
            return self._event(block)
        return b"".join([self._event(event + b"\n\n") for event in block.split(b"\n\n") if event])

    def _event(self, event: bytes) -> bytes:
        if event.startswith(self._pods_head) and event.endswith(_PLAIN_END) and _THOUGHT not in event:
            return self._head + event[len(self._pods_head) : -len(_PLAIN_END)] + self._end
        if not event.startswith(_DATA) or event == _DONE:
            return event
        return self._read(event)

    def _read(self, event: bytes) -> bytes:
        chunk = orjson.loads(event[len(_DATA) :])
        if self._ours and not chunk["choices"]:
            return b""
        head = _head(chunk, self._model, self._tier)
        choices = [
            {
                "index": choice["index"],
                "delta": _delta(choice["delta"]),
                "logprobs": _logprobs(choice.get("logprobs")),
                "finish_reason": choice.get("finish_reason"),
            }
            for choice in chunk["choices"]
        ]
        shaped = {**head, "choices": choices}
        if self._usage:
            shaped["usage"] = None if chunk.get("usage") is None else usage_of(chunk["usage"])
        place = event.find(_CHOICES)
        if place > 0:
            self._pods_head = event[:place]
            self._head = _DATA + orjson.dumps(head)[:-1] + b","
        return _DATA + orjson.dumps(shaped) + b"\n\n"


def _head(answer: Body, model: ChatModel, tier: str) -> Body:
    return {
        "id": answer["id"],
        "object": answer["object"],
        "created": answer["created"],
        # (Pods know an adapter by its version.)
        "model": model.name,
        "service_tier": tier,
        "system_fingerprint": model.fingerprint,
    }


def _message(message: Body) -> Body:
    shaped: Body = {
        "role": "assistant",
        "content": message.get("content"),
        "refusal": message.get("refusal"),
        "annotations": [],
    }
    if message.get("tool_calls"):
        shaped["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    return shaped | _thoughts(message)


def _delta(delta: Body) -> Body:
    shaped: Body = {name: delta[name] for name in ("role", "content", "refusal") if name in delta}
    if delta.get("tool_calls"):
        shaped["tool_calls"] = [_call(call) for call in delta["tool_calls"]]
    return shaped | _thoughts(delta)


def _call(call: Body) -> Body:
    """A call of a tool, or a part of one: of that only what is new is there."""
    return {name: call[name] for name in ("index", "id", "type", "function") if call.get(name) is not None}


def _thoughts(message: Body) -> Body:
    """What the model thinks, under both names that clients read.

    vLLM calls it ``reasoning``; it did call it ``reasoning_content``, as DeepSeek's API does, and half of the clients
    read that. OpenAI's schema has neither.
    """
    thought = message.get("reasoning")
    return {} if thought is None else {"reasoning": thought, "reasoning_content": thought}


def _logprobs(logprobs: Body | None) -> Body | None:
    return None if logprobs is None else {"content": logprobs.get("content"), "refusal": None}


def usage_of(usage: Body) -> Body:
    """What was used, in tokens; no model here reads or makes sound, or is given predictions."""
    prompt, output = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return {
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
        "prompt_tokens_details": {"cached_tokens": prompt.get("cached_tokens") or 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": output.get("reasoning_tokens") or 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
