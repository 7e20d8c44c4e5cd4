"""Random ids in OpenAI's shapes (``resp_…``, ``conv_…``, ``file-…``)."""

import secrets

__all__ = ["new_id"]


def new_id(prefix: str) -> str:
    """A fresh id: ``prefix`` followed by 48 hexadecimal digits, that is 192 random bits.

    ``prefix`` carries its own separator, since OpenAI writes ``resp_`` but ``file-``.
    """
    return prefix + secrets.token_hex(24)
