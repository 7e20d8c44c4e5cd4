"""Copies of the words of many attachments in one: what a bundle of words holds.

a line of JSON ‖ the postings of each attachment, as they are kept by themselves
"""

from collections.abc import Mapping
from typing import NamedTuple

import orjson
from cloister_common.vault import VaultError

__all__ = ["Copy", "encoded", "opened"]


class Copy(NamedTuple):
    """The postings of an attachment, encoded, and the e-tag that their object had."""

    tag: str
    data: bytes


def encoded(copies: Mapping[str, Copy]) -> bytes:
    """The content of a bundle with the words of these attachments."""
    head = [[name, copy.tag, len(copy.data)] for name, copy in copies.items()]
    return orjson.dumps(head) + b"\n" + b"".join(copy.data for copy in copies.values())


def opened(content: bytes) -> dict[str, Copy]:
    """What `encoded` made a content of.

    Raises:
        VaultError: It is none.
    """
    copies = {}
    try:
        at = content.index(b"\n") + 1
        for name, tag, size in orjson.loads(content[:at]):
            copies[name] = Copy(tag, content[at : at + size])
            at += size
    except (ValueError, TypeError):
        # Without its cause, which may quote it.
        raise VaultError from None
    return copies
