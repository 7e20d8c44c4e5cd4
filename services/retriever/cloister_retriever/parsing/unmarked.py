"""Texts that no byte tells apart from garbage at first sight: mainframes' code pages, and two bytes a character of East
Asia without a byte order mark. Each is taken only where hardly anything in it is no text then."""

import re

__all__ = ["east_asian_of", "ebcdic_of"]

_EBCDIC = ("cp037", "cp273", "cp500", "cp1026", "cp875", "cp424")
"""Of English, German, the rest of Western Europe, Turkish, Greek and Hebrew; what they differ in is told by words."""

_EBCDIC_BLANK, _ASCII_BLANK = b"\x40", b"\x20"
_LEAST_BLANKS, _MOST_OTHER_BLANKS = 0.05, 0.005
_LEAST_WORDS = 0.75
"""Of a text's characters: letters of ASCII and blanks, which all of mainframes' code pages have in the same places."""

_WORDS = re.compile(r"[A-Za-z \n]")
_WITHIN = re.compile(r"(?<=[a-z])[^\W\d_\x00-\x7f](?=[a-z])")
_SEEN = 64 * 1024
_LEAST_CHARACTERS = 20
_LEAST_EAST_ASIAN = 0.9
_EAST_ASIAN = re.compile("[\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7af\uff00-\uffef\u2010-\u2027A-Za-z0-9 .,\r\n\t]")
"""Han, kana and hangul with their punctuation, and a little ASCII. Of random bytes half would be such."""


def ebcdic_of(content: bytes) -> str | None:
    """The code page of a mainframe's text, or None for what is none."""
    seen = content[:_SEEN]
    if (
        seen.count(_EBCDIC_BLANK) < _LEAST_BLANKS * len(seen)
        or seen.count(_ASCII_BLANK) > _MOST_OTHER_BLANKS * len(seen)
        or len(_WORDS.findall(seen.decode("cp037").replace("\x85", "\n"))) < _LEAST_WORDS * len(seen)
    ):
        return None
    return max(_EBCDIC, key=lambda name: len(_WITHIN.findall(seen.decode(name, "replace"))))


def east_asian_of(content: bytes) -> str | None:
    """The byte order of a text of two bytes a character that is nearly all Han, kana or hangul, or None."""
    if len(content) < 2 * _LEAST_CHARACTERS:
        return None
    shares = {}
    for encoding in ("utf-16-le", "utf-16-be"):
        text = content[:_SEEN].decode(encoding, "replace")
        shares[encoding] = len(_EAST_ASIAN.findall(text)) / len(text)
    best = max(shares, key=lambda encoding: shares[encoding])
    return best if shares[best] >= _LEAST_EAST_ASIAN else None
