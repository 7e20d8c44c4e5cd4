"""The shapes of our ids. An id that has not its shape never reaches a path or a filter expression."""

import re

from cloister_common.errors import NotFound

__all__ = ["ATTACHMENT_PREFIX", "BATCH_PREFIX", "FILE_PREFIX", "STORE_PREFIX", "check_id", "missing"]

FILE_PREFIX = "file-"
STORE_PREFIX = "vs_"
BATCH_PREFIX = "vsfb_"
ATTACHMENT_PREFIX = "vsf_"

_WHAT = {FILE_PREFIX: "file", STORE_PREFIX: "vector store", BATCH_PREFIX: "file batch"}
_DIGITS = re.compile(r"[0-9a-f]{48}")


def check_id(prefix: str, value: str, *, param: str | None = None) -> str:
    """``value``, if it is ``prefix`` and 48 hexadecimal digits. Anything else cannot exist: the same 404."""
    if not value.startswith(prefix) or not _DIGITS.fullmatch(value[len(prefix) :]):
        raise missing(prefix, value, param=param)
    return value


def missing(prefix: str, value: str, *, param: str | None = None) -> NotFound:
    """The 404 for an unknown id and for another tenant's."""
    shown = "".join(character for character in value[:80] if character.isalnum() or character in "-_")
    return NotFound(f"No such {_WHAT[prefix]}: '{shown}'.", param=param)
