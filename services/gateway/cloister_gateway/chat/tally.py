"""What a chat completion used, read from bytes that nobody else parses: a token must stay cheap.

vLLM says it at the end of a whole answer, and in the last event of a stream. Of a stream that is cut off before it the
events are counted.
"""

import re

from cloister_gateway.usage import Used

__all__ = ["read_answer", "read_block"]

_USAGE = b'"usage":{'
"""As vLLM writes it. In text its quotes would be escaped."""

_NUMBER = re.compile(rb'"(prompt_tokens|completion_tokens|cached_tokens|reasoning_tokens)":(\d+)')
_USAGE_BYTES = 400
"""Longer than the object is."""

_EVENT = b'data: {"'


def read_answer(used: Used, answer: bytes) -> None:
    """Notes what a whole answer says it used."""
    found = _said(answer)
    used.silent = False
    used.exact = found is not None
    if found is not None:
        used.prompt, used.cached, used.output, used.reasoning = found


def read_block(used: Used, block: bytes) -> None:
    """Notes what a block of a stream's events says, or how many there are in it."""
    found = _said(block)
    if found is not None:
        used.exact = True
        used.prompt, used.cached, used.output, used.reasoning = found
    elif not (used.exact and used.output):
        used.exact = False
        used.output += block.count(_EVENT)


def _said(raw: bytes) -> tuple[int, int, int, int] | None:
    place = raw.rfind(_USAGE)
    if place < 0:
        return None
    numbers = dict(_NUMBER.findall(raw, place, place + _USAGE_BYTES))
    if b"prompt_tokens" not in numbers or b"completion_tokens" not in numbers:
        return None
    return (
        int(numbers[b"prompt_tokens"]),
        int(numbers.get(b"cached_tokens", 0)),
        int(numbers[b"completion_tokens"]),
        int(numbers.get(b"reasoning_tokens", 0)),
    )
