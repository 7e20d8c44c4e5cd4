"""How many tokens texts have at most, to a model of the embedder whose tokenizer is there and not here."""

import unicodedata
from collections.abc import Sequence

from cloister_gateway.usage import PromptSize

__all__ = ["prompt_size"]

_BESIDE_TOKENS = 32
"""More than a model has around one text: marks of its begin and end, and the prefix that some want."""


def prompt_size(texts: Sequence[str], query: str = "") -> PromptSize:
    """The size of texts, each of which is read with the query.

    A tokenizer makes at most one token of a byte, but of what its normalisation makes of the text: so the longest of
    all normal forms is looked at.
    """
    asked = _most(query)
    return PromptSize(sum([asked + _most(text) + _BESIDE_TOKENS for text in texts]))


def _most(text: str) -> int:
    return len(text) if text.isascii() else len(unicodedata.normalize("NFKD", text).encode(errors="replace"))
