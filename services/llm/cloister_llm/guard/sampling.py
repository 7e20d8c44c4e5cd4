"""What a request to vLLM may ask of its sampling: each field with the values it may have.

The gateway checks its callers' values itself, and says more about them. Here they are checked for what vLLM lets pass
and suffers from: sixteen thousand sequences of one request, a number that is none (``NaN``), a bias without end. None
of these fields reaches the prompt; a bias can make the model write a control token, which is output like any other.
"""

from collections.abc import Mapping
from typing import Any

from cloister_common.errors import InvalidRequest, UnsupportedParameter

__all__ = ["MOST_CHOICES", "SAMPLING_FIELDS", "check_sampling"]

MOST_CHOICES = 128
"""Answers to one prompt: OpenAI's bound."""

_MOST = 2**31 - 1
_NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "repetition_penalty": (0, 10),
}
_INTEGERS = {
    "n": (1, MOST_CHOICES),
    "top_k": (-1, _MOST),
    "seed": (-(2**63), 2**63 - 1),
    "max_tokens": (0, _MOST),
    "max_completion_tokens": (0, _MOST),
    "min_tokens": (0, _MOST),
    "top_logprobs": (0, 20),
    "stream_interval": (1, 1024),
    "thinking_token_budget": (-1, _MOST),
}
_SWITCHES = frozenset({"ignore_eos", "stream", "echo", "include_reasoning", "parallel_tool_calls", "return_token_ids"})
_STREAM_OPTIONS = frozenset({"include_usage", "continuous_usage_stats"})

_MOST_LOGPROBS = 20
"""vLLM's ``--max-logprobs``, and OpenAI's bound."""

_MOST_BIASED = 1024
_BIAS = 100.0
"""How far a token may be favoured or not: OpenAI's bound, at which vLLM clips."""

_MOST_STOPS = 16
_LONGEST_STOP = 1024

SAMPLING_FIELDS = frozenset({*_NUMBERS, *_INTEGERS, *_SWITCHES, "logprobs", "logit_bias", "stop", "stream_options"})
"""What is checked here. Not every route has all of it."""


def check_sampling(body: Mapping[str, Any]) -> None:
    """Checks the fields of a decoded body that are here; null is what it is without them.

    Raises:
        UnsupportedParameter: An option of ``stream_options`` that is not in the list, by its name.
        InvalidRequest: A value that is none, with what it may be.
    """
    for name, value in body.items():
        if value is None:
            continue
        if name in _NUMBERS:
            low, high = _NUMBERS[name]
            _require(_is_number(value) and low <= value <= high, name, f"a number from {low:g} to {high:g}")
        elif name in _INTEGERS:
            _require_integer(value, name, *_INTEGERS[name])
        elif name in _SWITCHES:
            _require(isinstance(value, bool), name, "true or false")
    _check_logprobs(body.get("logprobs"))
    _check_bias(body.get("logit_bias"))
    _check_stop(body.get("stop"))
    _check_stream_options(body.get("stream_options"))


def _check_logprobs(value: Any) -> None:
    """A switch on chats, a number on completions; vLLM knows which is which."""
    if value is not None and not isinstance(value, bool):
        _require_integer(value, "logprobs", 0, _MOST_LOGPROBS)


def _check_bias(bias: Any) -> None:
    if bias is None:
        return
    _require(isinstance(bias, Mapping) and len(bias) <= _MOST_BIASED, "logit_bias", f"up to {_MOST_BIASED} token ids")
    for token, value in bias.items():
        where = f"logit_bias.{token}"
        _require(token.isascii() and token.isdigit() and int(token[:10]) <= _MOST, where, "under the id of a token")
        _require(_is_number(value) and -_BIAS <= value <= _BIAS, where, f"a number from {-_BIAS:g} to {_BIAS:g}")


def _check_stop(stop: Any) -> None:
    if stop is None:
        return
    texts = [stop] if isinstance(stop, str) else stop
    _require(
        isinstance(texts, list)
        and len(texts) <= _MOST_STOPS
        and all(isinstance(text, str) and 0 < len(text) <= _LONGEST_STOP for text in texts),
        "stop",
        f"up to {_MOST_STOPS} texts of 1 to {_LONGEST_STOP} characters",
    )


def _check_stream_options(options: Any) -> None:
    if options is None:
        return
    _require(isinstance(options, Mapping), "stream_options", "an object")
    for name, value in options.items():
        if name not in _STREAM_OPTIONS:
            raise UnsupportedParameter(f"stream_options.{name}")
        _require(value is None or isinstance(value, bool), f"stream_options.{name}", "true or false")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_integer(value: Any, where: str, low: int, high: int) -> None:
    _require(
        isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
        where,
        f"an integer from {low} to {high}",
    )


def _require(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise InvalidRequest(f"Invalid value for '{where}': must be {what}.", param=where, code="invalid_value")
