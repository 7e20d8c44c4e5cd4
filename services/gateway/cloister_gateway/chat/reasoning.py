"""Reasoning in chat completions goes out under both names that clients read.

vLLM calls it ``reasoning``; it did call it ``reasoning_content``, as DeepSeek's API does, and half of the clients read
that. OpenAI's schema has neither. Nothing is parsed: in the text of an answer the quotes around such a key would be
escaped.
"""

import re

__all__ = ["with_both_names"]

_KEY = b'"reasoning":"'
_WHOLE = re.compile(rb'"reasoning":("(?:[^"\\]|\\.)*")')


def with_both_names(raw: bytes) -> bytes:
    """An answer, or events of one, with the reasoning under both names, where there is any."""
    if _KEY not in raw:
        return raw
    return _WHOLE.sub(rb'"reasoning":\1,"reasoning_content":\1', raw)
