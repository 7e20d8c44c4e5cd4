"""Random ids in OpenAI's shapes (``resp_…``, ``conv_…``, ``file-…``)."""

import secrets

__all__ = ["least_id", "new_id", "new_placed_id"]

_PLACE_DIGITS = 16


def new_id(prefix: str) -> str:
    """A fresh id: ``prefix`` followed by 48 hexadecimal digits, that is 192 random bits.

    ``prefix`` carries its own separator, since OpenAI writes ``resp_`` but ``file-``.
    """
    return prefix + secrets.token_hex(24)


def new_placed_id(prefix: str, at_ns: int) -> str:
    """A fresh id of the same shape, of something made at ``at_ns``, in nanoseconds since the epoch: the time, in 16
    hexadecimal digits, with 128 random bits behind it."""
    return f"{least_id(prefix, at_ns)}{secrets.token_hex(16)}"


def least_id(prefix: str, place: int) -> str:
    """What no id of this kind made at ``place`` or later comes before, and none made earlier after."""
    return f"{prefix}{place:0{_PLACE_DIGITS}x}"
