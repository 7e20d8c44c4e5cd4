"""What a llm pod's refusal means for the caller: vLLM's errors as errors of ours, with OpenAI's codes."""

import re
from typing import Any

import orjson
from cloister_common.errors import (
    CloisterError,
    InvalidRequest,
    TooManyRequests,
    Unavailable,
    UnsupportedParameter,
    UpstreamFailed,
)

__all__ = ["fault_of", "no_pod", "stream_fault"]

_CONTEXT = re.compile(r"maximum context length|max_model_len|max_total_tokens", re.IGNORECASE)
_NO_TOOLS = re.compile(r"--(tool-call-parser|enable-auto-tool-choice)")
"""The options that a pod was started without, in vLLM's words for the operator."""

_PUBLIC_PARAMS = frozenset(
    {
        "frequency_penalty", "logprobs", "max_completion_tokens", "max_tokens", "messages", "n", "parallel_tool_calls",
        "presence_penalty", "response_format", "seed", "stop", "stream_options", "temperature", "tool_choice", "tools",
        "top_logprobs", "top_p",
    }
)  # fmt: skip
"""Names that callers know; vLLM's own names of inner values are left out of what they are told."""

_RETRY_SECONDS = 5


def no_pod(model: str) -> Unavailable:
    """No pod of the model could be reached."""
    return Unavailable(f"No pod of the model '{model}' answers now. Try again.", retry_after=_RETRY_SECONDS)


def stream_fault() -> UpstreamFailed:
    """The stream ended before its end, or the engine reported an error inside it."""
    return UpstreamFailed("The model stopped in the middle of its answer. Try again.", code="model_failed")


def fault_of(model: str, status: int, body: bytes) -> CloisterError:
    """The error for a pod's answer ``status`` with ``body``, as the caller is told it.

    Wrong requests are explained in vLLM's words; whatever else goes wrong inside stays inside.
    """
    if status in {400, 413, 422}:
        return _refusal(body)
    if status == 429:
        return TooManyRequests(f"The model '{model}' is at its limit. Try again.", retry_after=_RETRY_SECONDS)
    if status == 503:
        return no_pod(model)
    return UpstreamFailed(f"The model '{model}' failed to answer. Try again.", code="model_failed")


def _refusal(body: bytes) -> InvalidRequest:
    error = _error(body)
    message = str(error.get("message") or "The model refused the request.")
    if _NO_TOOLS.search(message):
        return UnsupportedParameter("tools", "This model is not set up to call 'tools' here. Leave them out.")
    param = error.get("param") if error.get("param") in _PUBLIC_PARAMS else None
    if _CONTEXT.search(message):
        return InvalidRequest(message, param=param or "messages", code="context_length_exceeded")
    return InvalidRequest(message, param=param, code="invalid_value")


def _error(body: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    error = data.get("error") if isinstance(data, dict) else None
    return error if isinstance(error, dict) else {}
