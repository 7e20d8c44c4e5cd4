"""Files in the words of old mails, uuencoded (POSIX, ``uuencode``): lines of letters between ``begin`` and ``end``."""

import binascii
import re
from typing import NamedTuple

__all__ = ["Uuencoded", "without_files"]

_BEGIN = re.compile(r"^begin [0-7]{3,4} ([^\r\n]{1,255})\r?\n", re.MULTILINE)
_LONGEST_LINE = 61
_MOST_FILES = 1_000


class Uuencoded(NamedTuple):
    """A file that was in a text."""

    name: str
    content: bytes


def without_files(text: str) -> tuple[str, list[Uuencoded]]:
    """A text without the files that are in it, and these. What only begins like one stays text."""
    files: list[Uuencoded] = []
    kept: list[str] = []
    at = 0
    while len(files) < _MOST_FILES and (begin := _BEGIN.search(text, at)) is not None:
        content, behind = _content(text, begin.end())
        if content is None:
            kept.append(text[at : begin.end()])
            at = begin.end()
            continue
        kept.append(text[at : begin.start()])
        files.append(Uuencoded(begin[1].strip(), content))
        at = behind
    return "".join([*kept, text[at:]]), files


def _content(text: str, at: int) -> tuple[bytes | None, int]:
    """The file whose lines begin at ``at``, and where they end: None where they are no such lines to the end."""
    parts: list[bytes] = []
    while True:
        until = text.find("\n", at)
        line = text[at : len(text) if until < 0 else until].rstrip("\r")
        following = len(text) if until < 0 else until + 1
        if line.rstrip() == "end":
            return b"".join(parts) or None, following
        if until < 0 or len(line) > _LONGEST_LINE + 2 or (part := _decoded(line)) is None:
            return None, at
        parts.append(part)
        at = following


def _decoded(line: str) -> bytes | None:
    """A line's bytes. Blanks at its end may have been lost on the way."""
    if line.strip("` ") == "":
        return b""
    try:
        return binascii.a2b_uu(line.encode("ascii"))
    except (binascii.Error, UnicodeError):
        pass  # It may be of the second kind, below.
    try:
        # Some programs fill the last group up, and say a length that leaves that out.
        count = ((ord(line[0]) - 32) & 63) * 4 // 3 + 3
        return binascii.a2b_uu(line[: count + 1].encode("ascii"))
    except (binascii.Error, UnicodeError):
        return None
