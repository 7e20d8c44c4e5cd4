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

__all__ = ["RequestFailed", "failed_again", "fault_of", "no_answer_in_time", "no_pod", "said_by", "stream_fault"]

_CONTEXT = re.compile(r"maximum context length|max_model_len|max_total_tokens", re.IGNORECASE)
_FIELD = re.compile(r"[.\[]")
"""What ends the name of a field in a path: ``tools[0].function.parameters``."""

_PUBLIC_PARAMS = frozenset(
    {
        "echo", "frequency_penalty", "ignore_eos", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens",
        "messages", "min_p", "min_tokens", "n", "parallel_tool_calls", "presence_penalty", "prompt",
        "repetition_penalty", "response_format", "seed", "stop", "stream_options", "temperature", "tool_choice",
        "tools", "top_k", "top_logprobs", "top_p",
    }
)  # fmt: skip
"""Names that callers know; vLLM's own names of inner values are left out of what they are told."""

_RETRY_SECONDS = 5


class RequestFailed(UpstreamFailed):
    """The pods are well and this request fails on them, or takes longer than any may: it is not tried again."""

    code = "request_failed"

    def headers(self) -> dict[str, str]:
        """OpenAI's SDKs try a 5xx again by themselves, unless they are told not to."""
        return {**super().headers(), "x-should-retry": "false"}


def failed_again(model: str) -> RequestFailed:
    """The same request failed a second time, on another pod where there is one."""
    return RequestFailed(
        f"The model '{model}' failed on this request twice, so it would fail again. Change the request; if it is an "
        "ordinary one, the operator's log says more."
    )


def no_answer_in_time(model: str, seconds: float) -> RequestFailed:
    """A pod took longer than any answer may."""
    return RequestFailed(
        f"The model '{model}' did not answer within {seconds:g} s. Try again later, or ask for less.",
        code="model_timeout",
    )


def no_pod(model: str) -> Unavailable:
    """No pod of the model could be reached."""
    return Unavailable(f"No pod of the model '{model}' answers now. Try again.", retry_after=_RETRY_SECONDS)


def stream_fault() -> UpstreamFailed:
    """The stream ended before its end, or the engine reported an error inside it."""
    return UpstreamFailed("The model stopped in the middle of its answer. Try again.", code="model_failed")


def fault_of(model: str, status: int, body: bytes, *, read: str = "messages") -> CloisterError:
    """The error for a pod's answer ``status`` with ``body``, as the caller is told it, who sent what is to ``read``.

    Wrong requests are explained in vLLM's words; whatever else goes wrong inside stays inside.
    """
    if status in {400, 413, 422}:
        return _refusal(body, read)
    if status == 429:
        return TooManyRequests(f"The model '{model}' is at its limit. Try again.", retry_after=_RETRY_SECONDS)
    if status == 503:
        return no_pod(model)
    return UpstreamFailed(f"The model '{model}' failed to answer. Try again.", code="model_failed")


def _refusal(body: bytes, read: str) -> InvalidRequest:
    error = said_by(body)
    message = str(error.get("message") or "The model refused the request.")
    param = error.get("param")
    if not isinstance(param, str) or _FIELD.split(param, maxsplit=1)[0] not in _PUBLIC_PARAMS:
        param = None
    if param is not None and error.get("code") == UnsupportedParameter.code:
        return UnsupportedParameter(param, message)
    if _CONTEXT.search(message):
        return InvalidRequest(message, param=param or read, code="context_length_exceeded")
    return InvalidRequest(message, param=param, code="invalid_value")


def said_by(body: bytes) -> dict[str, Any]:
    """The error object in a pod's answer, or an empty one."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    error = data.get("error") if isinstance(data, dict) else None
    return error if isinstance(error, dict) else {}
