"""The only way a value gets into a Milvus filter expression.

Neither Milvus Lite nor Milvus 2.3 has filter templates. Their string literals are read like JSON's, so `json.dumps`
writes them; without ``ensure_ascii=False`` a character beyond ASCII would become an escape that Milvus does not undo.
Field names are the constants of `cloister_retriever.index.collection`, never input.
"""

import json
from collections.abc import Iterable

__all__ = ["all_of", "equals", "none_of", "one_of", "quote"]


def quote(value: str) -> str:
    """``value`` as a string literal."""
    return json.dumps(value, ensure_ascii=False)


def equals(field: str, value: str) -> str:
    """``field == "value"``."""
    return f"{field} == {quote(value)}"


def one_of(field: str, values: Iterable[str]) -> str:
    """``field in ["a", "b"]``."""
    return f"{field} in [{', '.join(quote(value) for value in values)}]"


def none_of(field: str, values: Iterable[str]) -> str:
    """``field not in ["a", "b"]``."""
    return f"{field} not in [{', '.join(quote(value) for value in values)}]"


def all_of(*conditions: str) -> str:
    """Every condition at once."""
    return " and ".join(conditions)
